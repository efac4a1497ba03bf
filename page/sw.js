// Service worker: sends the headers that threads need where the host does not (GitHub Pages), and
// keeps every file that was loaded, so that the page works offline. Newer files win when online.
const MODULES = "files keep live main messages network onnx open pixels pointer state view worker".split(" ");
const SHELL = ["./", "style.css", "models.json", ...MODULES.map((name) => `${name}.js`)];
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open("page").then((cache) => cache.addAll(SHELL)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const ours = new URL(request.url).origin === self.location.origin;
  if (ours && request.method === "GET") event.respondWith(answer(request, event));
});

async function answer(request, event) {
  const cache = await caches.open("page").catch(() => null); // where storage is refused
  const kept = async () => (await cache?.match(request, { ignoreSearch: true })) ?? null;
  let found;
  try {
    found = await fetch(request, { cache: "no-cache" }); // asks whether what is kept is the newest
    if (found.type === "opaqueredirect") return found;
    if (found.status >= 500) found = (await kept()) ?? found;
    else if (found.status === 200 && cache) event.waitUntil(cache.put(request, found.clone()));
  } catch (error) {
    found = await kept();
    if (!found) throw error;
  }
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
