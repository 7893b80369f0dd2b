const box = document.querySelector(".explore"), slider = box.querySelector("input");
const thumb = box.querySelector(".thumb"), said = box.querySelector("p");
const rows = [...document.querySelectorAll(".mapped tbody tr")];
const plots = [...document.querySelectorAll(".plot")].map(plot => {
  const here = plot.appendChild(document.createElement("span"));
  here.className = "here";
  return {plot, here, points: plot.dataset.points.split(" ").map(pair => pair.split(",").map(Number))};
});
const show = i => {
  slider.value = i;
  thumb.style.cssText = rows[i].querySelector(".thumb").style.cssText;
  const cells = [...rows[i].querySelectorAll("[data-what]")];
  const words = cell => [cell.dataset.what + " ", cell.querySelector("bdi").cloneNode(true), " "];
  said.replaceChildren(...cells.flatMap(words));
  slider.setAttribute("aria-valuetext", said.textContent);
  for (const {here, points} of plots) {
    here.style.left = points[i][0] + "%";
    here.style.top = points[i][1] + "%";
  }
};
for (const {plot, points} of plots) plot.addEventListener("pointermove", event => {
  const at = plot.getBoundingClientRect();
  const x = 100 * (event.clientX - at.left) / at.width, y = 100 * (event.clientY - at.top) / at.height;
  const far = points.map(point => Math.hypot(point[0] - x, point[1] - y));
  const nearest = far.indexOf(Math.min(...far));
  if (far[nearest] < 6) show(nearest);
});
slider.addEventListener("input", () => show(Number(slider.value)));
box.hidden = false;
show(0);
