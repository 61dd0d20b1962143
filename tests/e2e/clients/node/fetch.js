// Fetches the URL in its second argument with `http` or, by its first one, `fetch`, and says on stderr which address its
// host has: by the lookup of the request itself, through the C library; and, for `fetch`, by c-ares, which asks itself.
'use strict';
const dns = require('dns');
const http = require('http');

const [way, url] = process.argv.slice(2);
const host = new URL(url).hostname;
const tell = (address) => console.error(`${host} is ${address}`);

async function fetchByFetch() {
  const [address] = await dns.promises.resolve4(host);
  tell(address);
  process.stdout.write(await (await fetch(url)).text());
}

function fetchByHttp() {
  const request = http.get(url, (answer) => answer.pipe(process.stdout));
  request.on('socket', (socket) => socket.on('lookup', (error, address) => tell(address)));
}

(way === 'fetch' ? fetchByFetch : fetchByHttp)();
