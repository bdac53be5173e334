"""The API's description and a page to read it with, without a network: Swagger UI out of a package, in memory."""

from msgspec import Struct
from swagger_ui_bundle import swagger_ui_path

from sluicegate.web.asgi import JSON, Answer, Scope
from sluicegate.web.refusals import refusal

PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluicegate API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = b"""SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null});
"""
# Swagger UI writes style attributes and shows its icons as data URLs; nothing else comes from elsewhere.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = [(b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff")]
HTML, CSS, SCRIPT = (
    (b"content-type", b"%b; charset=utf-8" % kind) for kind in (b"text/html", b"text/css", b"text/javascript")
)


class Documentation:
    """Answers `/openapi.json`, `/docs` and exactly the assets that the page asks for: no path is opened for anyone."""

    def __init__(self, description: bytes) -> None:
        """`description` is the OpenAPI document."""
        bundle = swagger_ui_path
        page = Asset(HTML, PAGE)
        self._assets = {
            "/openapi.json": Asset(JSON, description),
            "/docs": page,
            "/docs/": page,
            "/docs/start.js": Asset(SCRIPT, START),
            "/docs/swagger-ui.css": Asset(CSS, (bundle / "swagger-ui.css").read_bytes()),
            "/docs/swagger-ui-bundle.js": Asset(SCRIPT, (bundle / "swagger-ui-bundle.js").read_bytes()),
        }

    def answer(self, scope: Scope) -> Answer | None:
        """The answer, or None when there is nothing at this path."""
        asset = self._assets.get(scope["path"])
        if asset is None:
            return None
        if scope["method"] != "GET":
            return refusal(scope, 405, "method_not_allowed", "only GET is answered here", (b"allow", b"GET"))
        return Answer(200, [asset.content_type, *SAFE], asset.content)


class Asset(Struct, frozen=True):
    """What one path holds."""

    content_type: tuple[bytes, bytes]
    content: bytes
