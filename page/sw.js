// Service worker: sends the headers that threads need where the host does not (GitHub Pages), and
// keeps every file that was loaded, so that the page works offline. The page's own files, SHELL, are
// served from one VERSION, which build.py writes above; a newer one takes over whole, once no tab
// shows the old one. Of all other files, as the networks, newer ones win when online.
const SCOPE = self.registration.scope; // other pages of this host have caches, too
const [PAGE, OTHERS] = [`${SCOPE} ${VERSION}`, `${SCOPE} networks`];
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

self.addEventListener("install", (event) => {
  const files = SHELL.map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(files)));
});

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

async function takeOver() {
  const old = (await caches.keys()).filter((name) => name.startsWith(`${SCOPE} `) && ![PAGE, OTHERS].includes(name));
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const ours = new URL(request.url).origin === self.location.origin;
  if (ours && request.method === "GET") event.respondWith(answer(request, event));
});

const opened = (name) => caches.open(name).catch(() => null); // where storage is refused
const kept = (request, cache) => cache?.match(request, { ignoreSearch: true });

async function answer(request, event) {
  const found = (await kept(request, await opened(PAGE))) ?? (await newest(request, event));
  if (found.type === "opaqueredirect") return found;
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}

async function newest(request, event) {
  const cache = await opened(OTHERS);
  try {
    const found = await fetch(request, { cache: "no-cache" }); // asks whether what is kept is the newest
    if (found.status >= 500) return (await kept(request, cache)) ?? found;
    if (found.status === 200 && cache) event.waitUntil(cache.put(request, found.clone()));
    return found;
  } catch (error) {
    const found = await kept(request, cache);
    if (!found) throw error;
    return found;
  }
}
