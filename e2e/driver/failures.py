"""The ways in which a scenario can fail. The negative controls must fail in one of these."""


class ScenarioFailed(AssertionError):
    """The scenario's contract was broken."""


class StillAlive(ScenarioFailed):
    """A process that must end still lives at the deadline."""


class DiedByMistake(ScenarioFailed):
    """A process that must live has ended."""


class WrongExit(ScenarioFailed):
    """A process has ended with another exit status than the contract says."""


class LeftBehind(ScenarioFailed):
    """A test has left processes behind that it did not know about."""


class NeverServed(ScenarioFailed):
    """A process failed to start and ended by itself. That is no fault of the watcher."""
