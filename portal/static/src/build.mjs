// Builds the front end into portal/static/dist/: one style sheet, one script, one icon sheet, the fonts, and a manifest
// of their hashes, so that a browser may keep each file for ever and still sees the next version at once.
// Nothing is fetched: Tailwind and the fonts come from node_modules. `--watch` rebuilds when a source changes.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, watch, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const source = dirname(fileURLToPath(import.meta.url));
const root = join(source, "../../..");
const target = join(root, "portal/static/dist");
const fresh = target + ".new";
const modules = join(root, "node_modules");

// The Latin halves of Plex are for the PDFs of receipts and statements; pages have Inter beside its Arabic.
const PLEX = ["arabic-400", "arabic-600", "latin-400", "latin-600", "latin-ext-400", "latin-ext-600"];
const FONTS = [
  ...PLEX.map((cut) => `@fontsource/ibm-plex-sans-arabic/files/ibm-plex-sans-arabic-${cut}-normal.woff2`),
  "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
  "@fontsource/jetbrains-mono/files/jetbrains-mono-latin-400-normal.woff2",
];

const hash = (path) => createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 12);

function icons() {
  const symbols = readdirSync(join(source, "icons"))
    .filter((file) => file.endsWith(".svg"))
    .sort()
    .map((file) => {
      const svg = readFileSync(join(source, "icons", file), "utf8");
      const inner = svg.replace(/^[\s\S]*?<svg[^>]*>/, "").replace(/<\/svg>\s*$/, "").trim();
      return `<symbol id="${file.slice(0, -4)}" viewBox="0 0 24 24">${inner}</symbol>`;
    });
  return `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`;
}

function build() {
  const started = Date.now();
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(join(fresh, "fonts"), { recursive: true });

  for (const font of FONTS) cpSync(join(modules, font), join(fresh, "fonts", font.split("/").at(-1)));
  cpSync(join(source, "js/app.js"), join(fresh, "app.js"));
  writeFileSync(join(fresh, "icons.svg"), icons());
  cpSync(join(source, "icons/logo.svg"), join(fresh, "logo.svg"));

  const style = join(fresh, "app.css");
  const cli = join(modules, "@tailwindcss/cli/dist/index.mjs");
  const run = spawnSync(process.execPath, [cli, "-i", join(source, "css/app.css"), "-o", style, "--minify"], { cwd: root, encoding: "utf8" });
  if (run.status !== 0) {
    process.stderr.write(run.stderr);
    throw new Error("the style sheet could not be built");
  }
  const css = readFileSync(style, "utf8").replace(/fonts\/([\w-]+\.woff2)/g, (_, name) => `fonts/${name}?v=${hash(join(fresh, "fonts", name))}`);
  writeFileSync(style, css);

  const manifest = {};
  for (const entry of readdirSync(fresh, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    manifest[path.slice(fresh.length + 1)] = hash(path);
  }
  writeFileSync(join(fresh, "manifest.json"), JSON.stringify(manifest, Object.keys(manifest).sort(), 1) + "\n");

  // The old build is served until the new one is whole.
  const old = target + ".old";
  rmSync(old, { recursive: true, force: true });
  try {
    renameSync(target, old);
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  renameSync(fresh, target);
  rmSync(old, { recursive: true, force: true });
  console.log(`front end built in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

build();

if (process.argv.includes("--watch")) {
  let waiting;
  const again = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      try {
        build();
      } catch (error) {
        console.error(error.message);
      }
    }, 150);
  };
  watch(source, { recursive: true }, again);
  watch(join(root, "portal/templates"), { recursive: true }, again);
}
