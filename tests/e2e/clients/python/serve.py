"""Answers each request with the name in its first argument and the path, on the port in its second, and says the path:
with http.server, a thread a connection; or, by its third argument (`asyncio`), with asyncio, which never waits."""

import asyncio
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, PORT = sys.argv[1], int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{NAME} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(self.path, flush=True)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args):
        pass


async def answer(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split()[1].decode()
    body = f"{NAME} {path}".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    print(path, flush=True)
    try:
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        # The client of a copy may be gone.
        pass


async def serve():
    server = await asyncio.start_server(answer, "0.0.0.0", PORT)
    await server.serve_forever()


if sys.argv[3:] == ["asyncio"]:
    asyncio.run(serve())
else:
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
