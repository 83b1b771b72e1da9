// Keeps the page, so that it works offline after the first visit. Models are kept by pictures.mjs when they are
// used.
const CACHE = `onebranch-${"VERSION"}`;
const FILES = ["FILES"];
const MODEL_CACHE = "onebranch-models";

self.addEventListener("install", (event) => {
  const addresses = ["./", ...FILES];
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(addresses)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(removeOldCaches().then(() => self.clients.claim()));
});

async function removeOldCaches() {
  const old = (name) => name.startsWith("onebranch-") && name !== CACHE && name !== MODEL_CACHE;
  const names = (await caches.keys()).filter(old);
  await Promise.all(names.map((name) => caches.delete(name)));
}

self.addEventListener("fetch", (event) => {
  const { request } = event, { scope } = self.registration, [address] = request.url.split(/[?#]/);
  const ofPage = address.startsWith(scope) && ["", ...FILES].includes(address.slice(scope.length));
  if (ofPage && request.method === "GET") event.respondWith(kept(request));
});

async function kept(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}
