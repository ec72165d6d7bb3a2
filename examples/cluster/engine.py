"""The engine: it knows neither Ray nor this project.

A front process starts the one that serves, in a session of its own, as inference servers do with
the process that holds the GPU. The latter prints its process id and its port, and answers every GET
with "OK".
"""

import http.server
import os


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers, and logs nothing."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *arguments):
        pass


def serve():
    """Serves on a free port, until a signal ends it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(os.getpid(), server.server_port, flush=True)
    server.serve_forever()


pid = os.fork()
if pid == 0:
    os.setsid()
    serve()
else:
    os.waitpid(pid, 0)
