"""The pipeline and everything it is made of, put together in one place from the engines that the daemon runs."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecache.cache.scorer import Scorer
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import Clock
from edgecache.config import Cache, Config
from edgecache.embed.batcher import Batcher
from edgecache.functions.bindings import Bindings
from edgecache.functions.phases import Rules
from edgecache.functions.runner import Runner
from edgecache.pipeline.agreement import Comparer
from edgecache.pipeline.coalesce import Flights
from edgecache.pipeline.decider import Decider
from edgecache.pipeline.explain import Explainer
from edgecache.pipeline.fallback import Fallback
from edgecache.pipeline.feedback import Feedback
from edgecache.pipeline.fetch import Fetcher
from edgecache.pipeline.fill import Filler
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.hits import Hits
from edgecache.pipeline.hooks import Hooks
from edgecache.pipeline.inference import LocalAnswers
from edgecache.pipeline.learner import Learner
from edgecache.pipeline.lookup import Lookup
from edgecache.pipeline.mirror import Mirrors
from edgecache.pipeline.plan import Planner
from edgecache.pipeline.replay import Replay
from edgecache.pipeline.serve import Pipeline
from edgecache.pipeline.shadow import Shadow
from edgecache.pipeline.sightings import Sightings
from edgecache.pipeline.visit import Parts
from edgecache.router.dispatch import Dispatcher
from edgecache.store.entries import EntryStore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edgecache.embed.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Engines:
    """What has threads and files. Without `verifier` and `scorer` only equal wording hits by meaning."""

    store: EntryStore
    semantic: SemanticTier
    embedder: Batcher
    verifier: "Verifier | None"
    scorer: Scorer | None


@dataclass(frozen=True, slots=True)
class FunctionParts:
    """What runs functions. `answers` is attached to the pipeline here; `rules` hold for requests that they make up."""

    bindings: Bindings
    runner: Runner
    answers: LocalAnswers
    rules: Rules


@dataclass(frozen=True, slots=True)
class Assembly:
    """What others than the pipeline itself work with."""

    pipeline: Pipeline
    lookup: Lookup
    learner: Learner
    feedback: Feedback
    shadow: Shadow
    mirrors: Mirrors
    sightings: Sightings
    explainer: Explainer


def assemble(
    engines: Engines,
    dispatcher: Dispatcher,
    flights: Flights,
    tasks: Tasks,
    *,
    config: Config,
    settings: Cache,
    clock: Clock,
    metrics: Metrics,
    rng: random.Random,
    functions: FunctionParts | None = None,
) -> Assembly:
    """Build the parts; nothing runs yet. `settings` are those of the cache in force, `config` all others."""
    store, semantic, embedder = engines.store, engines.semantic, engines.embedder
    cache_side = CacheSide(clock=clock, metrics=metrics)
    learner = Learner(store, clock=clock, metrics=metrics, config=config)
    decider = Decider(learner, cache_side, verifier=engines.verifier, scorer=engines.scorer, rng=rng)
    lookup = Lookup(store, semantic, embedder, decider, learner, cache_side, clock=clock, metrics=metrics)
    planner, replay = Planner(embedder=embedder.embedder.fingerprint), Replay()
    comparer = Comparer(embedder, dispatcher)
    mirrors = Mirrors(comparer, dispatcher, cache_side, tasks, settings=config.router, metrics=metrics, rng=rng)
    filler = Filler(semantic, embedder, learner, mirrors, cache_side, clock=clock, metrics=metrics, rng=rng)
    fetcher = Fetcher(dispatcher, flights, filler, replay, clock=clock, metrics=metrics)
    shadow = Shadow(store, learner, comparer, fetcher, cache_side, tasks, metrics=metrics, rng=rng)
    sightings = Sightings(semantic, embedder, cache_side, tasks, metrics=metrics)
    hits = Hits(lookup, replay, sightings, clock=clock)
    fallback = Fallback(replay, clock=clock, metrics=metrics)
    hooks = _hooks(functions, clock, settings)
    pipeline = Pipeline(planner, lookup, hits, fetcher, fallback, shadow, hooks, cache_side, tasks, settings=settings)
    if functions is not None:
        functions.answers.attach(pipeline)
    feedback = Feedback(store, learner, sightings, clock=clock, metrics=metrics)
    explainer = Explainer(planner, lookup, learner, clock=clock)
    return Assembly(pipeline, lookup, learner, feedback, shadow, mirrors, sightings, explainer)


def _hooks(functions: FunctionParts | None, clock: Clock, settings: Cache) -> Hooks:
    if functions is None:
        return Hooks()
    return Hooks(Parts(functions.bindings, functions.runner, functions.rules, clock, settings.max_stream_bytes))
