"""Error responses: HTML for browsers, JSON for API clients, never a traceback."""

from flask import Flask, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from .proxy import REQUEST_ID


def register(app: Flask) -> None:
    app.register_error_handler(HTTPException, error_response)


def error_response(error: HTTPException) -> Response:
    """Return the response to an error, with its status and its headers, such as Allow or Retry-After."""
    if error.code is None or error.code < 400:  # a redirect
        return error.get_response()
    request_id = request.environ[REQUEST_ID]
    if _wants_json():
        response = jsonify(error=error.description, request_id=request_id)
    else:
        response = make_response(render_template("error.html", error=error, request_id=request_id))
    response.status_code = error.code
    for name, value in error.get_headers():
        if name != "Content-Type":
            response.headers[name] = value
    response.cache_control.no_store = True
    return response


def _wants_json() -> bool:
    if request.path.startswith("/api/"):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"
