"""A running study: what comes next for a participant, and how many videos of a part are left."""

from collections.abc import Callable, Mapping
from typing import Literal

from microlens.errors import InputError
from microlens.feed.models import Models
from microlens.feed.people import now_ms
from microlens.feed.person import Person, Session
from microlens.feed.study.orders import order_of
from microlens.feed.study.participants import Participant, Participants
from microlens.feed.study.settings import Question, StudySettings

Stage = Literal["none", "invitation", "unknown", "closed", "consent", "videos", "questions", "finished"]


class Study:
    """A study of the models of a feed.

    A participant sees one part for each model, in an order of its own; or a single part if the models are interleaved.

    Args:
        settings: the study.
        participants: its participants.
        models: the models of the feed.
        clock: the time, in ms since 1970.
    """

    def __init__(
        self,
        settings: StudySettings,
        participants: Participants,
        models: Models,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.settings, self.participants = settings, participants
        self._models, self._clock = models, clock

    def stage(self, participant: Participant | None, person: Person | None) -> Stage:
        """What comes next for a participant, who is a person of the feed after the consent."""
        if participant is None:
            return "unknown"
        if participant.finished is not None:
            return "finished"
        if participant.consented is None or person is None:
            return "closed" if self.participants.is_closed() else "consent"
        is_over = participant.done == len(participant.order) or self.is_over(person, participant.done)
        return "questions" if is_over else "videos"

    def questions(self, participant: Participant) -> list[Question]:
        """The questions after the present part, or at the end."""
        return self.settings.asked("part" if participant.done < len(participant.order) else "study")

    def consent(self, participant: Participant) -> None:
        """Note that a participant takes part, with the order of models for the number.

        Raises:
            StoreUnavailableError: nothing was stored.
        """
        interleaved = self._models.interleave
        order = [None] if interleaved else order_of(participant.number, self._models.arms, self.settings.seed)
        self.participants.consent(participant.person, order, self._clock())

    def answer(self, participant: Participant, answers: Mapping[str, str]) -> None:
        """Store the answers after the present part, which is done then.

        Raises:
            InputError: a question is not answered, or an answer is not accepted.
            StoreUnavailableError: nothing was stored.
        """
        asked = self.questions(participant)
        unknown = set(answers) - {question.name for question in asked}
        refused = (question.why_refused(answers.get(question.name, "")) for question in asked)
        why = next(filter(None, refused), f"there is no question {min(unknown)}" if unknown else None)
        if why is not None:
            raise InputError(f"{why}.")
        given = {name: text for name, text in answers.items() if text.strip()}
        last = len(participant.order) - (not self.settings.asked("study"))
        finishes = participant.done == last
        self.participants.finish_part(participant.person, participant.done, given, finishes=finishes, now=self._clock())

    def serves(self, participant: Participant) -> bool:
        """True if the models of a participant are those of this feed."""
        return set(participant.order) == ({None} if self._models.interleave else set(self._models.arms))

    def is_over(self, person: Person, part: int) -> bool:
        """True if all videos of a part were seen, or its time is up."""
        return self._missing(person, part) <= 0 or self.ends_in(person, part) == 0

    def left(self, person: Person, session: Session) -> int:
        """The number of videos that may still be handed out in a session.

        A video that was handed out but not seen in an earlier session of the part, which was closed, does not count.
        """
        if session.part is None or self.ends_in(person, session.part) == 0:
            return 0
        return self._missing(person, session.part) - session.unseen

    def ends_in(self, person: Person, part: int) -> int | None:
        """The ms until the time of a part is up; None without a limit. It runs from the first video on."""
        if self.settings.minutes is None:
            return None
        began = [session.began for session in person.sessions_of(part) if session.began is not None]
        whole = round(60_000 * self.settings.minutes)
        return max(0, min(began) + whole - self._clock()) if began else whole

    def _missing(self, person: Person, part: int) -> int:
        """The number of videos that are still to be seen; without a limit one is always missing."""
        if self.settings.videos is None:
            return 1_000_000
        return self.settings.videos - sum(session.seen for session in person.sessions_of(part))
