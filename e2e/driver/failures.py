"""What can be wrong with a scenario. The negative controls must fail with one of these."""


class ScenarioFailed(AssertionError):
    """Something that the scenario's contract excludes was seen."""


class StillAlive(ScenarioFailed):
    """A process that had to go is still there at the deadline."""


class DiedByMistake(ScenarioFailed):
    """A process that had to live is gone."""


class WrongExit(ScenarioFailed):
    """A process is gone, with another exit status than the contract says."""


class LeftBehind(ScenarioFailed):
    """A test left processes that it did not know of."""


class NeverServed(ScenarioFailed):
    """A process could not serve, and ended by itself. That says nothing about the watcher."""
