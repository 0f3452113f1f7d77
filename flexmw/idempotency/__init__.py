"""Honour ``Idempotency-Key`` on the server: one POST is executed once, also when an SDK repeats it without a key.

Where to look: ``component.py`` has the options, ``core.py`` the states of a key, ``stored.py`` what is stored of a
response, ``key.py`` how a key is parsed, ``stores/`` where the entries are, and ``request.py`` what one request does.

>>> from starlette.applications import Starlette
>>> from starlette.responses import JSONResponse
>>> from starlette.routing import Route
>>> from starlette.testclient import TestClient
>>> from flexmw.idempotency import Idempotency
>>> runs = []
>>> async def order(request):
...     runs.append(await request.json())
...     return JSONResponse({"order": len(runs)}, status_code=201)
>>> app = Idempotency().asgi(Starlette(routes=[Route("/orders", order, methods=["POST"])]))
>>> client = TestClient(app)
>>> for _ in range(2):
...     response = client.post("/orders", json={"item": 1}, headers={"Idempotency-Key": "8e03978e"})
...     print(response.status_code, response.json(), response.headers.get("Idempotent-Replayed"))
201 {'order': 1} None
201 {'order': 1} true
>>> client.post("/orders", json={"item": 2}, headers={"Idempotency-Key": "8e03978e"}).json()["error"]["code"]
'idempotency_key_reused'

Public: the names in ``__all__``, and the module ``admin``. The other modules of this package are private.
"""

from __future__ import annotations

from flexmw.idempotency.component import Idempotency
from flexmw.idempotency.execution import Execution, execution
from flexmw.idempotency.stores import Appended, BlockingStore, Held, LogStore, Piece, Store, StoreOptions
from flexmw.idempotency.stores.open import open_store
from flexmw.idempotency.stores.threads import Threaded

__all__ = [
    "Appended",
    "BlockingStore",
    "Execution",
    "Held",
    "Idempotency",
    "LogStore",
    "Piece",
    "Store",
    "StoreOptions",
    "Threaded",
    "execution",
    "open_store",
]
