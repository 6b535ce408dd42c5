// Draws the Mermaid diagrams of the book, as GitHub does. Without a network they stay text.
const diagrams = document.querySelectorAll("code.language-mermaid");
if (diagrams.length > 0) {
  import("https://cdn.jsdelivr.net/npm/mermaid@11.17.2/dist/mermaid.esm.min.mjs").then(({ default: mermaid }) => {
    for (const code of diagrams) {
      const diagram = document.createElement("pre");
      diagram.className = "mermaid";
      diagram.textContent = code.textContent;
      code.parentElement.replaceWith(diagram);
    }
    mermaid.initialize({ startOnLoad: false });
    return mermaid.run();
  });
}
