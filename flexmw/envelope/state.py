"""The state machine of one HTTP response, as :class:`flexmw.envelope.responder.Responder` runs it.

::

              status < 400                         last body
    WAITING ---------------------> PASSING ---------------------------------> DONE
       |                              ^                                         ^
       |      event stream            | file body                               |
       |-----------------------> STREAMING ----- app returns or raises ---------|
       |                                                                        |
       |      status >= 400                body states something                |
       '----------------------> COLLECTING -------------------------------------|
                                      |                                         |
                                      | body is a bare 500                      |
                                      '------> HELD ---- app returns or raises -'

==========  =======================================  ======================  ==========================
state       meaning                                  the app returns         the app raises
==========  =======================================  ======================  ==========================
WAITING     The app has sent nothing.                Send a 500.             Send the exception's error.
PASSING     A good response, or an error that is     -                       Record the error; the
            left alone: forwarded as it comes.                               server cuts the response.
STREAMING   A stream whose end is kept back:         Send the end.           End the stream with an
            ``Stream`` forwards whole events.                                error event.
COLLECTING  An error response whose body is not      Decide on the part      Decide on the part that
            complete.                                that is there.          is there.
HELD        A bare 500.                              Send it, rewritten.     Send the exception's error.
DONE        The response is complete, or the client  -                       -
            has disconnected.
==========  =======================================  ======================  ==========================

The head of a stream is held for at most ``hold`` seconds, and until the first byte of the app.
COLLECTING and HELD last at most ``max_wait`` seconds; then the app is treated as if it had returned.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["State"]


class State(IntEnum):
    """How far the response to a request has come."""

    WAITING = 0
    PASSING = 1
    STREAMING = 2
    COLLECTING = 3
    HELD = 4
    DONE = 5
