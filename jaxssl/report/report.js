// A link to a folded section opens it.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target && target.closest("details");
  if (folded && !folded.open) {
    folded.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
reveal();

// The list of runs shows what they do now.
if (document.body.dataset.refresh) setTimeout(() => location.reload(), 1000 * document.body.dataset.refresh);

// Images open large, with their text, on click or Enter.
const strips = [...document.querySelectorAll(".row img")];
if (strips.length && window.HTMLDialogElement) {
  const dialog = document.createElement("dialog"), large = document.createElement("img");
  const words = document.createElement("p"), close = document.createElement("button");
  dialog.className = "large";
  close.textContent = "Close";
  dialog.append(large, words, close);
  dialog.setAttribute("aria-label", "Image");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", event => event.target === dialog && dialog.close());
  for (const img of strips) {
    const open = document.createElement("button");
    open.className = "open";
    img.replaceWith(open);
    open.append(img);
    open.addEventListener("click", () => {
      large.src = img.src;
      large.alt = words.textContent = img.alt;
      if (!dialog.isConnected) document.body.append(dialog);
      dialog.showModal();
    });
  }
}

// The map of the features.
const explore = document.querySelector(".explore");
if (explore) {
  const slider = explore.querySelector("input");
  const thumb = explore.querySelector(".thumb"), said = explore.querySelector("p");
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
  explore.hidden = false;
  show(0);
}
