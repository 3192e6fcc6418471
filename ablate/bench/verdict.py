"""Which part holds up training, and what to do about it: from rates alone, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

FED = 0.9
"""From this share of the training step's rate on, the whole is as fast as the network lets it be."""
WIDE = 1.5
"""A presize of more times the size than this is more than a crop needs."""
NETWORK, TRANSFORMS = "network", "batch transforms"
DECODE, PRESIZE, CACHE, AUGMENT, REST = "decode", "presize", "cache", "augmentation", "batching"

_DOING = {
    DECODE: "decoding",
    PRESIZE: "resizing to the presize",
    CACHE: "reading the cache",
    AUGMENT: "augmentation",
    REST: "putting batches together",
}


@dataclass(frozen=True)
class Rates:
    """Images per second of each part by itself, and of all together.

    Args:
        decode: Reading and decoding files.
        presize: Reading, decoding and presizing files.
        cache: Reading presized images from the cache; None without one.
        augment: Cutting and warping presized images in memory; None where transforms from elsewhere take
            part, which may keep state and so run in the loader alone.
        loader: The training loader as the recipe has it.
        loader_decoding: Without the cache.
        loader_kept: With presized images in memory.
        transforms: The batch transforms on the device.
        step: The training step on a batch that is on the device.
        validation: The validation step, likewise.
        whole: Training.
    """

    decode: float
    presize: float
    cache: float | None
    augment: float | None
    loader: float
    loader_decoding: float
    loader_kept: float
    transforms: float
    step: float
    validation: float
    whole: float


@dataclass(frozen=True)
class Facts:
    """What else the advice depends on.

    Args:
        device: cpu, cuda, mps or xla.
        cores: Of this machine.
        workers: Loader threads, or processes.
        size: The images' side.
        presize: The presized images' shorter side.
        in_memory: Whether the images come from no files.
        streams: Whether the recipe trains on a few shards at a time.
        cache: `data.cache`: auto, off, raw or jpeg.
        has_room: Whether the presized images fit on the disk.
        kept_bytes: Mean bytes of a presized image in the cache.
        precision: Of the phase.
        foreign: Techniques whose item transforms run image by image in processes.
    """

    device: str = "cpu"
    cores: int = 2
    workers: int = 2
    size: int = 224
    presize: int = 256
    in_memory: bool = False
    streams: bool = False
    cache: str = "auto"
    has_room: bool = True
    kept_bytes: float | None = None
    precision: str = "float32"
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The part that holds up the others, and sentences for a person: what was found, then what to do."""

    bottleneck: str
    sentences: list[str]


def verdict(rates: Rates, facts: Facts) -> Verdict:
    """Name the bottleneck.

    Training that runs at 90% of its step's rate or more is held up by the network. Else it is the loader, if
    that alone is slower than what is done on the device, by the part that takes most of the loader's time.
    Else no part alone is too slow and they hinder each other, as on a CPU where all use the same cores: then
    it is the part that takes most time.
    """
    main = 1 / (1 / rates.step + 1 / rates.transforms)
    if rates.whole >= FED * rates.step:
        return Verdict(NETWORK, [_network_found(rates), *_network_advice(facts)])
    parts = loader_parts(rates)
    part = max(parts, key=lambda name: parts[name])
    if rates.loader <= main:
        found = (
            f"The loader is the bottleneck: it gives {_n(rates.loader)} images/s, and the training step "
            f"could take {_n(rates.step)}. Of the loader's time, {_DOING[part]} takes {parts[part]:.0%}."
        )
        return Verdict(part, [found, *_loader_advice(part, rates, facts)])
    costs = {NETWORK: 1 / rates.step, TRANSFORMS: 1 / rates.transforms, part: 1 / rates.loader}
    most = max(costs, key=lambda name: costs[name])
    if most == TRANSFORMS or rates.step > rates.transforms:
        return Verdict(TRANSFORMS, _transforms_found(rates))
    found = (
        f"The loader would give {_n(rates.loader)} images/s and the training step {_n(rates.step)} if each "
        f"were alone; together they come to {_n(rates.whole)}"
    )
    if not facts.workers:
        found += ", since they take turns without loader threads"
    else:
        found += (
            ", since both use the same cores" if facts.device == "cpu" else ", so they wait for each other"
        )
    found += (
        f". The {'network' if most == NETWORK else 'loader'} is the bottleneck: it takes the larger part."
    )
    advice = _network_advice(facts) if most == NETWORK else []
    return Verdict(most, [found, *advice, *_loader_advice(part, rates, facts)])


def loader_parts(rates: Rates) -> dict[str, float]:
    """What share of the loader's time each of its parts takes, in the order in which they are done."""
    if rates.cache is not None:
        costs = {CACHE: 1 / rates.cache}
    else:
        decode = 1 / rates.decode
        costs = {DECODE: decode, PRESIZE: max(1 / rates.presize - decode, 0.0)}
    if rates.augment is not None:
        costs[AUGMENT] = 1 / rates.augment
    costs[AUGMENT if rates.augment is None else REST] = max(1 / rates.loader - sum(costs.values()), 0.0)
    whole = sum(costs.values())
    return {name: cost / whole for name, cost in costs.items()}


def _network_found(rates: Rates) -> str:
    spare = rates.loader / rates.step
    feeds = (
        f"the loader could feed {spare:.{0 if spare >= 9.5 else 1}f} times as much"
        if spare > 1.2
        else "the loader just keeps up"
    )
    return (
        f"The network is the bottleneck: training runs at {_n(rates.whole)} images/s, the training step "
        f"alone at {_n(rates.step)}; {feeds}."
    )


def _network_advice(facts: Facts) -> list[str]:
    smaller = "a smaller network (model.arch) or smaller images (size, the technique progressive_resizing)"
    if facts.device == "cpu":
        return [f"Faster would be a GPU, {smaller}."]
    if facts.precision == "float32":
        return [f"Try precision: bfloat16 first; faster would also be {smaller}."]
    return [f"Faster would be {smaller}."]


def _transforms_found(rates: Rates) -> list[str]:
    return [
        f"The batch transforms are the bottleneck: they do {_n(rates.transforms)} images/s before each "
        f"training step, which could take {_n(rates.step)}.",
        "Turn off the technique that has the slow one (batch_transforms), or do its work on the host.",
    ]


def _loader_advice(part: str, rates: Rates, facts: Facts) -> list[str]:
    """What makes the loader faster, most effective first."""
    advice = []
    if part in (DECODE, PRESIZE):
        advice += _cache_advice(rates, facts)
    elif part == CACHE and facts.cache == "jpeg":
        advice.append("data.cache: {format: raw} needs no decoding, for about ten times the disk.")
    elif part == CACHE:
        advice.append("A faster disk or more memory for ABLATE_CACHE helps, or data.cache: {format: jpeg}.")
    elif facts.foreign:
        names = " and ".join(facts.foreign)
        advice.append(
            f"The item transforms of {names} are not ablate's own, so they run image by image, in worker "
            "processes: make them a Geometry, a Colour or a batch transform, or turn them off."
        )
    if part in (CACHE, AUGMENT) and facts.presize > WIDE * facts.size and not facts.foreign:
        advice.append(
            f"Images are presized to {facts.presize} for squares of {facts.size}: a smaller presize is "
            "less work."
        )
    if facts.workers < facts.cores:
        advice.append(f"More loader threads may help: --workers {facts.cores}, now {facts.workers}.")
    elif not advice:
        advice.append(f"All {facts.cores} cores are at work: a machine with more of them helps.")
    return advice


def _cache_advice(rates: Rates, facts: Facts) -> list[str]:
    if facts.in_memory:
        return []
    gain = f"the loader would then give up to {_n(rates.loader_kept)} images/s"
    if not facts.has_room:
        return [
            "There is no room to keep presized images: set ABLATE_CACHE to a folder on a larger disk, or "
            f"data.cache to {{format: jpeg}}; {gain}."
        ]
    if facts.streams:
        return [
            f"Let ablate keep presized images, if the disk holds them (data.cache: {{format: raw}}); {gain}."
        ]
    return [f"Let ablate keep presized images (data.cache: auto); {gain}."]


def _n(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 9.5 else f"{rate:.2g}"
