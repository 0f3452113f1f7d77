from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.errors import ConfigError
from flexmw.kit.chain import arun, chain
from flexmw.kit.chain import run as run_in_thread
from flexmw.kit.drive import adrive, drive
from flexmw.kit.effects import Discard, Effect, Emit, Flow, Follow, Send, Sleep
from flexmw.kit.evidence import Evidence


class Lost(Exception):
    """A transport error."""


class Stopped(BaseException):
    """As a KeyboardInterrupt or a cancellation."""


class Answer:
    """An answer; two are never equal."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


Step = tuple[str, Any]


@dataclass
class Scripted:
    """A component that follows a script, as odd as a generator of scripts makes it."""

    steps: list[Step]
    events: list[Any] = field(default_factory=list)
    observing: bool = False

    def flow(self, request: Any) -> Flow:
        held: list[Any] = []
        for kind, value in self.steps:
            try:
                match kind:
                    case "send":
                        held.append((yield Send(request, self.observe if self.observing else None)))
                    case "sleep":
                        assert (yield Sleep(value)) is None
                    case "tell":
                        assert (yield Emit(value, {})) is None
                    case "follow" if held:
                        assert (yield Follow(held[-1], lambda error: None)) is held[-1]
                    case "discard" if held:
                        yield Discard(held.pop())
                    case "raise":
                        raise value
            except Exception as error:
                self.events.append(type(error))
                if isinstance(error, Lost) and value == "give up":
                    raise
        if not held:
            held.append((yield Send(request)))
        return held[0] if len(held) % 2 else held[-1]

    def observe(self, event: str, details: Any) -> None:
        self.events.append(event)


class World:
    """Performs effects by a script of outcomes and writes down what it saw."""

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = iter(outcomes)
        self.effects: list[str] = []
        self.given: list[Answer] = []
        self.discarded: list[Any] = []

    def perform(self, effect: Effect) -> Any:
        self.effects.append(type(effect).__name__)
        outcome = next(self.outcomes, None)
        match effect:
            case Send(_, observe):
                if observe is not None:
                    observe("sent", {})
                if isinstance(outcome, BaseException):
                    raise outcome
                self.given.append(Answer(f"answer {len(self.given)}"))
                return self.given[-1]
            case Discard(response):
                self.discarded.append(response)
                if isinstance(outcome, Stopped):
                    raise outcome
            case Follow(response):
                return response
            case _:
                if isinstance(outcome, BaseException):
                    raise outcome
        return None

    async def aperform(self, effect: Effect) -> Any:
        await anyio.lowlevel.checkpoint()
        return self.perform(effect)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["go on", "give up"])),
        st.tuples(st.just("sleep"), st.just(1.0)),
        st.tuples(st.just("tell"), st.just("told")),
        st.tuples(st.sampled_from(["discard", "follow"]), st.none()),
        st.tuples(st.just("raise"), st.builds(Stopped) | st.builds(Lost)),
    ),
    max_size=6,
)
STACKS = st.lists(st.tuples(STEPS, st.booleans()), max_size=4)
OUTCOMES = st.lists(st.sampled_from(["ok", "ok", "ok", "lost", "stopped"]), max_size=40)


def outcomes(words: list[str]) -> list[Any]:
    return [{"ok": None, "lost": Lost(), "stopped": Stopped()}[word] for word in words]


def run(run: Callable[[World, Flow], Any], stack: Any, words: list[str]) -> tuple[Any, ...]:
    return run_components(lambda world, components: run(world, chain(components, "request")), stack, words)  # type: ignore[arg-type]


def run_components(run: Callable[[World, list[Any]], Any], stack: Any, words: list[str]) -> tuple[Any, ...]:
    world, components = World(outcomes(words)), [Scripted(list(steps), observing=seen) for steps, seen in stack]
    result: Any
    try:
        result = run(world, components)
    except (Lost, Stopped) as error:
        result = type(error)
    return result, world, [component.events for component in components]


def synchronously(world: World, flow: Flow) -> Any:
    return drive(flow, world.perform)


def in_a_task(backend: str) -> Callable[[World, Flow], Any]:
    return lambda world, flow: anyio.run(adrive, flow, world.aperform, backend=backend)


@given(stack=STACKS, words=OUTCOMES)
def test_every_response_that_is_not_returned_is_discarded_exactly_once(stack: Any, words: list[str]) -> None:
    result, world, _ = run(synchronously, stack, words)
    counts = Counter(map(id, world.discarded))
    if isinstance(result, Answer):
        assert counts[id(result)] == 0
    for answer in world.given:
        if answer is not result:
            assert counts[id(answer)] == 1, (answer, world.effects)


@given(stack=STACKS, words=OUTCOMES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_both_drivers_give_the_same_effects_events_and_results(backend: str, stack: Any, words: list[str]) -> None:
    one, world, events = run(synchronously, stack, words)
    other, other_world, other_events = run(in_a_task(backend), stack, words)
    assert world.effects == other_world.effects
    assert [str(answer) for answer in world.discarded] == [str(answer) for answer in other_world.discarded]
    assert (str(one), events) == (str(other), other_events)


@given(stack=STACKS, words=OUTCOMES)
@pytest.mark.parametrize("is_async", [False, True])
def test_the_quick_run_of_one_component_gives_the_same_effects_and_results(
    is_async: bool, stack: Any, words: list[str]
) -> None:
    def quickly(world: World, components: list[Any]) -> Any:
        if is_async:
            return anyio.run(arun, components, "request", world.aperform)
        return run_in_thread(components, "request", world.perform)  # type: ignore[arg-type]

    for part in [stack, stack[:1]]:
        one, world, events = run(synchronously, part, words)
        other, other_world, other_events = run_components(quickly, part, words)
        assert (str(one), world.effects, events) == (str(other), other_world.effects, other_events)
        assert [str(answer) for answer in world.discarded] == [str(answer) for answer in other_world.discarded]


@pytest.mark.parametrize("failure", [Lost(), Stopped(), GeneratorExit(), KeyboardInterrupt()])
def test_what_the_world_raises_reaches_the_flow_and_the_caller(failure: BaseException) -> None:
    seen: list[BaseException] = []

    def perform(effect: Effect) -> Any:
        raise failure

    class Watching:
        def flow(self, request: Any) -> Flow:
            try:
                return (yield Send(request))
            except BaseException as error:
                seen.append(error)
                raise

    with pytest.raises(type(failure)) as caught:
        drive(chain([Watching(), Watching()], "request"), perform)  # type: ignore[arg-type]
    assert [type(error) for error in seen] == [type(failure)] * 2
    if not isinstance(failure, GeneratorExit):
        assert caught.value is failure


def flows(*functions: Callable[[Any], Any]) -> list[Any]:
    return [type("Component", (), {"flow": staticmethod(function)})() for function in functions]


def effects_of(components: list[Any], answers: Callable[[Effect], Any]) -> tuple[Any, list[Effect]]:
    seen: list[Effect] = []

    def perform(effect: Effect) -> Any:
        seen.append(effect)
        return answers(effect)

    return drive(chain(components, "request"), perform), seen  # type: ignore[arg-type]


def fresh() -> Callable[[Effect], Any]:
    names: Iterator[int] = iter(range(100))
    return lambda effect: Answer(f"{next(names)}") if isinstance(effect, Send) else None


def test_no_component_is_the_transport_alone() -> None:
    answer, seen = effects_of([], fresh())
    assert answer.name == "0"
    assert seen == [Send("request", None)]  # type: ignore[arg-type]


def test_an_inner_component_runs_anew_for_every_send_of_an_outer_one() -> None:
    def twice(request: Any) -> Flow:
        yield Discard((yield Send(request + " outer")))
        return (yield Send(request))

    def once(request: Any) -> Flow:
        yield Sleep(1.0)
        return (yield Send(request + " inner"))

    answer, seen = effects_of(flows(twice, once), fresh())
    assert answer.name == "1"
    assert [(type(effect).__name__, getattr(effect, "request", None)) for effect in seen] == [
        ("Sleep", None),
        ("Send", "request outer inner"),
        ("Discard", None),
        ("Sleep", None),
        ("Send", "request inner"),
    ]


def test_observers_see_every_attempt_and_all_of_them() -> None:
    heard: list[str] = []

    def outer(request: Any) -> Flow:
        return (yield Send(request, lambda event, details: heard.append(f"outer {event} {details['n']}")))

    def silent(request: Any) -> Flow:
        return (yield Send(request))

    def inner(request: Any) -> Flow:
        for _ in range(2):
            yield Discard((yield Send(request, lambda event, details: heard.append(f"inner {event}"))))
        return (yield Send(request))

    def answers(effect: Effect) -> Any:
        if isinstance(effect, Send):
            assert effect.observe is not None
            effect.observe("trace", {"n": len(heard)})
            return Answer("x")
        return None

    effects_of(flows(outer, silent, inner), answers)
    assert heard == ["outer trace 0", "inner trace", "outer trace 2", "inner trace", "outer trace 4"]


def test_one_observer_alone_is_handed_on_as_it_is() -> None:
    def observe(event: str, details: Any) -> None: ...

    def outer(request: Any) -> Flow:
        return (yield Send(request, observe))

    _, [effect] = effects_of(flows(outer), fresh())
    assert isinstance(effect, Send)
    assert effect.observe is observe


def test_an_emitted_event_reaches_the_outer_observers_only_and_never_the_driver() -> None:
    heard: list[tuple[str, str, Any]] = []

    def component(name: str) -> Callable[[Any], Flow]:
        def flow(request: Any) -> Flow:
            assert (yield Emit(f"{name} before", {"by": name})) is None
            answer = yield Send(request, lambda event, details: heard.append((name, event, details["by"])))
            yield Emit(f"{name} after", {"by": name})
            return answer

        return flow

    _, seen = effects_of(flows(component("a"), component("b"), component("c")), fresh())
    assert [type(effect) for effect in seen] == [Send]
    assert heard == [
        ("a", "b before", "b"),
        ("a", "c before", "c"),
        ("b", "c before", "c"),
        ("a", "c after", "c"),
        ("b", "c after", "c"),
        ("a", "b after", "b"),
    ]


def test_an_observer_that_fails_fails_the_flow_that_emitted() -> None:
    caught: list[BaseException] = []

    def outer(request: Any) -> Flow:
        def observe(event: str, details: Any) -> None:
            raise Lost(event)

        return (yield Send(request, observe))

    def inner(request: Any) -> Flow:
        try:
            yield Emit("told", {})
        except Lost as error:
            caught.append(error)
        return (yield Send(request))

    answer, _ = effects_of(flows(outer, inner), fresh())
    assert str(caught[0]) == "told"
    assert answer.name == "0"


def test_a_response_that_comes_twice_is_discarded_once() -> None:
    same = Answer("cached")

    def cached(request: Any) -> Flow:
        yield Sleep(1.0)
        return same  # type: ignore[return-value]

    def twice(request: Any) -> Flow:
        yield Send(request)
        yield Send(request)
        return Answer("own")  # type: ignore[return-value]

    _, seen = effects_of(flows(twice, cached), fresh())
    assert [effect for effect in seen if isinstance(effect, Discard)] == [Discard(same)]  # type: ignore[arg-type]


def test_responses_are_the_same_by_identity_and_not_by_equality() -> None:
    class Equal(Answer):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    def twice(request: Any) -> Flow:
        yield Send(request)
        return (yield Send(request))

    answers = [Equal("first"), Equal("second")]
    kept, seen = effects_of(flows(twice), in_turn(list(answers)))
    assert kept is answers[1]
    [discard] = [effect for effect in seen if isinstance(effect, Discard)]
    assert discard.response is answers[0]


def in_turn(answers: list[Any]) -> Callable[[Effect], Any]:
    return lambda effect: answers.pop(0) if isinstance(effect, Send) else None


@pytest.mark.parametrize("failing", [0, 1])
def test_a_discarding_that_is_cancelled_leaves_nothing_behind(failing: int) -> None:
    discarded: list[str] = []
    answers = fresh()

    def perform(effect: Effect) -> Any:
        if isinstance(effect, Discard):
            discarded.append(repr(effect.response))
            if len(discarded) == failing + 1:
                raise Stopped
        return answers(effect)

    def thrice(request: Any) -> Flow:
        yield Send(request)
        yield Send(request)
        return (yield Send(request))

    with pytest.raises(Stopped):
        drive(chain(flows(thrice), "request"), perform)  # type: ignore[arg-type]
    assert discarded == ["0", "1", "2"], "the answer that nobody got is discarded, too"


def test_a_flow_that_is_closed_closes_its_components_and_yields_nothing_more() -> None:
    closed: list[str] = []

    def component(name: str) -> Callable[[Any], Flow]:
        def flow(request: Any) -> Flow:
            try:
                yield Send(request)
                return (yield Send(request))
            finally:
                closed.append(name)

        return flow

    flow = chain(flows(component("outer"), component("inner")), "request")  # type: ignore[arg-type]
    next(flow)
    flow.send(Answer("held"))
    flow.close()
    assert closed == ["inner", "outer"]


def test_a_flow_that_is_closed_between_discards_goes_quietly() -> None:
    def thrice(request: Any) -> Flow:
        yield Send(request)
        yield Send(request)
        return (yield Send(request))

    flow = chain(flows(thrice), "request")  # type: ignore[arg-type]
    next(flow)
    for name in ("a", "b"):
        flow.send(Answer(name))
    assert isinstance(flow.send(Answer("c")), Discard)
    flow.close()


async def coroutine(request: Any) -> None: ...


async def async_generator(request: Any) -> Any:
    yield Send(request)


@pytest.mark.parametrize(
    "method",
    [coroutine, async_generator, lambda request: "answer", lambda request: None, lambda request: [Send(request)]],
    ids=["coroutine", "async generator", "answer", "nothing", "list"],
)
def test_a_flow_method_that_is_no_generator_is_a_clear_error(method: Callable[[Any], Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"Component\.flow\(\) = .*: expected a generator: flow\(\) must yield its effects"
    ):
        effects_of(flows(method), fresh())


@pytest.mark.parametrize("outer", [[], [lambda request: (yield Send(request))]], ids=["alone", "inside"])
def test_a_flow_that_returns_nothing_is_a_clear_error_and_leaks_nothing(outer: list[Any]) -> None:
    def forgetful(request: Any) -> Any:
        yield Send(request)

    seen: list[Effect] = []
    answers = fresh()

    def perform(effect: Effect) -> Any:
        seen.append(effect)
        return answers(effect)

    with pytest.raises(ConfigError, match=r"Component\.flow\(\) = None: expected to return a response"):
        drive(chain(flows(*outer, forgetful), "request"), perform)  # type: ignore[arg-type]
    assert [type(effect) for effect in seen] == [Send, Discard]


def test_an_unknown_effect_is_handed_to_the_driver_whose_refusal_comes_back_into_the_flow() -> None:
    refused: list[str] = []

    def odd(request: Any) -> Any:
        try:
            yield "what?"
        except ConfigError as error:
            refused.append(error.value)
        return (yield Send(request))

    def perform(effect: Any) -> Any:
        if isinstance(effect, str):
            raise ConfigError("flow()", effect, "an effect")
        return Answer("ok")

    assert drive(chain(flows(odd), "request"), perform).name == "ok"  # type: ignore[arg-type,attr-defined]
    assert refused == ["'what?'"]


def test_a_transport_that_raises_stop_iteration_cannot_end_a_flow() -> None:
    def perform(effect: Effect) -> Any:
        raise StopIteration("from a mock that ran dry")

    def passing(request: Any) -> Any:  # a lambda lets it through on 3.13
        return (yield Send(request))

    with pytest.raises(RuntimeError, match="StopIteration"):
        drive(chain(flows(passing), "request"), perform)  # type: ignore[arg-type]


class Suspended:
    """An awaitable that never goes on."""

    def __await__(self) -> Iterator[None]:
        yield None


def test_a_quick_run_closes_the_flow_of_a_task_that_is_closed() -> None:
    seen: list[type] = []

    def flow(request: Any) -> Flow:
        try:
            return (yield Send(request))
        except BaseException as error:
            seen.append(type(error))
            raise

    async def perform(effect: Effect) -> Any:
        await Suspended()

    call = arun(flows(flow), "request", perform)  # type: ignore[arg-type]
    call.send(None)
    call.close()
    assert seen == [GeneratorExit]


def test_a_quick_run_lets_no_transport_end_a_flow_by_stop_iteration() -> None:
    def perform(effect: Effect) -> Any:
        raise StopIteration("from a mock that ran dry")

    def passing(request: Any) -> Any:
        return (yield Send(request))

    with pytest.raises(RuntimeError, match="StopIteration"):
        run_in_thread(flows(passing), "request", perform)  # type: ignore[arg-type]


@pytest.mark.parametrize("flow", [None, "response"])
def test_a_quick_run_refuses_a_flow_that_is_not_a_generator(flow: Any) -> None:
    with pytest.raises(ConfigError, match="a generator"):
        run_in_thread(flows(lambda request: flow), "request", lambda effect: None)  # type: ignore[arg-type]


HEAD = "http11.send_request_headers.started"
CONNECT = "connection.connect_tcp.started"


@pytest.mark.parametrize("before", [(HEAD,), (CONNECT, HEAD), (CONNECT,)], ids=" ".join)
def test_a_head_that_an_outer_component_withholds_was_not_sent(before: tuple[str, ...]) -> None:
    evidence = Evidence()

    def withhold(event: str, details: Any) -> None:
        if event not in before[:-1]:
            raise Lost

    class Outer:
        def flow(self, request: Any) -> Flow:
            return (yield Send(request, withhold))

    class Inner:
        def flow(self, request: Any) -> Flow:
            return (yield Send(request, evidence.observe))

    def perform(effect: Effect) -> Any:
        assert isinstance(effect, Send)
        assert effect.observe is not None
        for event in before:
            effect.observe(event, {})

    with pytest.raises(Lost):
        drive(chain((Outer(), Inner()), object()), perform)
    assert evidence.sent is False
