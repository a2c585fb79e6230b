"""All that is fuzzed, by name."""

from tests.fuzz.checkpoint import Checkpoint
from tests.fuzz.configuration import Configuration
from tests.fuzz.dataset import DatasetFolder
from tests.fuzz.features import Features, Sequences
from tests.fuzz.media import Media
from tests.fuzz.pairs import Pairs
from tests.fuzz.stores import Stores
from tests.fuzz.tables import Tables
from tests.fuzz.target import Target

TARGETS: dict[str, type[Target]] = {
    target.name: target
    for target in (Media, Pairs, Tables, Configuration, DatasetFolder, Checkpoint, Features, Sequences, Stores)
}
