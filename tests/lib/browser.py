"""A browser: one set of cookies for many apps, as behind a balancer."""


class Browser:
    """Sends requests over HTTPS and keeps cookies, with the rules for __Host- that browsers have."""

    def __init__(self, cookies=None, agent="browser"):
        self.cookies = dict(cookies or {})
        self.agent = agent

    def fork(self):
        """A request that sets out now: it has today's cookies, and learns nothing of later ones."""
        return Browser(self.cookies, self.agent)

    def get(self, app, path, **options):
        return self.request(app, "GET", path, **options)

    def post(self, app, path, **form):
        return self.request(app, "POST", path, data=form)

    def request(self, app, method, path, **options):
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "User-Agent": self.agent}
        client = app.test_client(use_cookies=False)
        response = client.open(path, method=method, base_url="https://shop.test", headers=headers, **options)
        for line in response.headers.getlist("Set-Cookie"):
            self.keep(line)
        return response

    def keep(self, line):
        """What a Set-Cookie header does: a __Host- cookie is neither set nor deleted without Secure, or off Path=/."""
        (name, value), *attributes = (part.split("=", 1) for part in line.split("; "))
        attributes = {each[0]: each[-1] for each in attributes}
        if name.startswith("__Host-") and ("Secure" not in attributes or attributes.get("Path") != "/"):
            return
        if name.startswith("__Host-") and "Domain" in attributes:
            return
        if attributes.get("Max-Age") == "0":
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value
