"""What is wrong with the images of a dataset, before anything is trained on them.

`items` lists the images of a folder, a download or an archive; `report` reads them and describes them; `checks` turn
the description into findings.
"""
