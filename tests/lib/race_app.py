"""The demo app with a route for races: the client decides the steps of a request and when they run."""

import os
import socket
from typing import Any

from anynode import create_app
from flask import request
from flask_shared_session import current_session as session

app = create_app()


@app.post("/race")
def race() -> dict[str, Any]:
    order = request.get_json()
    dict(session)  # read the session now, so that this request misses later changes
    with socket.create_connection(("127.0.0.1", order["gate"]), timeout=20) as gate:
        gate.recv(1)
    returned = [run(*step.split()) for step in order["steps"]]
    return {"process": os.getpid(), "returned": returned}


def run(step: str, *arguments: str) -> Any:
    if step == "set":
        session[arguments[0]] = arguments[1]
    elif step == "append":
        session[arguments[0]]["list"].append(1)
    else:
        return getattr(session, step)(*arguments)
    return None
