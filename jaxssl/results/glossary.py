"""Explanations of the terms on the reports, for readers who know no machine learning."""

TERMS = {
    "macro AUC": (
        "Area under the ROC curve, mean over the classes: how often an image of a class gets a higher probability of "
        "it than an image of another class. 0.5 is chance, 1 is perfect."
    ),
    "accuracy": "Share of the images whose predicted class is the true one.",
    "balanced accuracy": "Mean over the classes of the share that is predicted right; rare classes count as much.",
    "macro F1": "Harmonic mean of precision and recall, mean over the classes.",
    "average precision": "Mean share of right images among those ranked as high as each image that has the label.",
    "quadratic kappa": (
        "Agreement of predicted and true grades beyond chance, where a grade that is two off weighs four times as much "
        "as one that is one off. 0 is chance, 1 is perfect."
    ),
    "mean absolute error": "How far predictions are from the true values on average, in their unit. Lower is better.",
    "R²": "Share of the variance of the values that predictions explain; 0 is always predicting the mean.",
    "Spearman's ρ": "Correlation of the ranks of predictions and true values: whether they are in the same order.",
    "95 % interval": (
        "Confidence interval: in 95 of 100 studies like this one, the true value is inside. Two results whose "
        "difference has an interval that includes 0 cannot be told apart."
    ),
    "random weights": "A network that has learned nothing yet: the baseline that pretraining has to beat.",
    "pretraining": "Training on images without their labels, before the network learns the task.",
    "self-supervised": "Learning from the images alone, without labels.",
    "linear probing": (
        "A linear classifier on the features of the frozen network: it measures what pretraining alone has learned."
    ),
    "nearest neighbors": "Classification by the most similar training images, with the features of the frozen network.",
    "linear probe": "A linear classifier on the features of the frozen network; also called linear probing.",
    "attentive probing": "A classifier with attention on the features of the frozen network.",
    "segmentation": "Marking the pixels of a structure such as a tumor; here all weights of the network are trained.",
    "linear segmentation": "Marking pixels by one layer on the frozen network: what pretraining alone has learned.",
    "Dice": (
        "Overlap of the predicted and the true mask: twice the common pixels, divided by the pixels of both. 0 is no "
        "overlap, 1 is perfect."
    ),
    "IoU": "Overlap of the predicted and the true mask: the common pixels, divided by those of either. 1 is perfect.",
    "Hausdorff distance": "How far the outlines of the predicted and the true mask are apart. Lower is better.",
    "FROC": "Share of the lesions that are found, against false alarms for each image.",
    "NT-Xent": ("Contrastive pretraining, as in SimCLR: the network learns which altered copies are of one image."),
    "BYOL": "Pretraining in which the network predicts how a slow copy of itself describes another view of the image.",
    "MAE": "Masked autoencoder: pretraining in which the network fills in hidden parts of the image.",
    "rotation prediction": "Pretraining in which the network tells by how much an image was turned.",
    "inpainting": "Pretraining in which the network fills in rectangles that were cut out of the image.",
    "contrastive pairs": "Pretraining in which views of one image, or images of one class, become alike.",
    "mutual learning": "Two networks that learn from the labels and from each other.",
    "distillation": "Training in which a network learns the outputs of another that was trained before.",
    "ImageNet": "A million photographs of everyday things, on which most published networks were trained.",
    "epoch": "One pass of training over the images.",
    "step": "One update of the network, from one small lot of images.",
    "p-value": "How often chance alone would give a difference this large. Below .05 is usually taken as shown.",
    "fold": "One of several divisions of the images; over all folds, each image is a test image once.",
    "fine-tuning": "All weights of the network are trained on the labels: how a network is used in practice.",
    "features": "The numbers by which the network describes an image.",
    "effective rank": "In how many directions the features of different images vary; near 1, the network collapsed.",
    "collapse": "Failure of pretraining: the network gives (nearly) the same features for every image.",
    "bootstrap": "Repeated drawing, with replacement, of the test groups, to see how much a score varies.",
    "groups": "Images of one patient, object or series; they are never divided between training and test.",
    "seed": "Number that fixes all random choices of a run. Another seed gives another network and other scores.",
    "majority class": "Always predicting the most frequent class; a useful network must do better.",
    "ROC": "The share of a class that is found against the share of false alarms, at every threshold.",
    "sensitivity": "Share of the images of a class that are found.",
    "specificity": "Share of the images of other classes that give no false alarm.",
    "calibration": "Whether probabilities can be taken at their word: of images predicted with 80 %, 80 % are right.",
    "t-SNE": "A map on which images with similar features are close to one another.",
    "UMAP": "A map on which images with similar features are close to one another.",
    "class-activation maps": "Where in the image the network finds evidence for the class that it predicts.",
    "label efficiency": "How the score grows with the share of the labels that training may use.",
    "Holm": "Correction of p-values for the number of comparisons, which keeps false findings below 5 %.",
    "embedding": "The features as the loss of pretraining sees them, behind a small extra network.",
    "online probe": "A linear classifier trained next to pretraining, to watch it; it does not influence the network.",
    "fingerprint": "Checksum of the images and labels: equal fingerprints, equal data.",
}
