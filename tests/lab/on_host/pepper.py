"""Runs on a lab host: a client of salt-api as scripts have one, with the standard library alone.

Arguments: the address with its port, the file with the authority, name, target, function and named
arguments as JSON. The password comes on standard input. Prints the status of the log-in, of the
call, of the log-out and of the same call after that, and what the call returned.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request


class Api:
    """One session."""

    def __init__(self, address: str, authority: str) -> None:
        self.url = f"https://{address}"
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
        self.opener = urllib.request.build_opener(trust)
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}

    def post(self, path: str, body: object) -> "tuple[int, object]":
        """The status of an answer, and what it says."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self.headers)
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, json.load(answer)["return"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["return"]


def main() -> None:
    """Log in, call, log out, call."""
    address, authority, name, target, function, given = sys.argv[1:]
    api = Api(address, authority)
    words = {"username": name, "password": sys.stdin.read().strip(), "eauth": "rocksalt_file"}
    entered, said = api.post("/login", words)
    api.headers["X-Auth-Token"] = said[0]["token"] if entered == 200 else ""
    call = [{"client": "local", "tgt": target, "fun": function, "kwarg": json.loads(given)}]
    called, returned = api.post("/", call)
    left, _ = api.post("/logout", {})
    again, _ = api.post("/", call)
    print(json.dumps({"status": [entered, called, left, again], "return": returned}))


if __name__ == "__main__":
    main()
