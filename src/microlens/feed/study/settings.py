"""Settings of a study, read from TOML and strictly validated."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from microlens.feed.settings import Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]


class Question(Section):
    """A question to participants.

    Attributes:
        name: names the question in the answers.
        text: what is asked.
        choices: the answers of which one is chosen, such as a scale; without them the answer is a text.
        length: greatest length of a text, in characters.
        required: whether it must be answered.
        after: asked after each part, or once at the end of the study.
    """

    name: Name
    text: Text
    choices: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=20)] = ()
    length: Annotated[int, Field(ge=1, le=10_000)] = 1000
    required: bool = True
    after: Literal["part", "study"] = "study"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.choices) == 1 or len(set(self.choices)) < len(self.choices):
            raise ValueError("choices are at least two different answers")
        return self

    def why_refused(self, answer: str) -> str | None:
        """Why an answer, empty for none, is not accepted; None if it is."""
        if not answer.strip():
            return f"{self.name} has to be answered" if self.required else None
        if self.choices and answer not in self.choices:
            return f"the answer to {self.name} is none of its choices"
        if len(answer) > self.length:
            return f"the answer to {self.name} has more than {self.length:,} characters"
        return None


class StudySettings(Section):
    """Settings of a study, which has a part for each model, or one part if the models are interleaved.

    Attributes:
        name: names the study in the event store.
        title: what participants see as its title.
        consent: what they are told before they agree to take part; paragraphs are separated by empty lines.
        thanks: what they are told at the end.
        videos: number of videos of each part.
        minutes: length of each part, from its first video on; with ``videos``, whichever is reached first.
        seed: seed of the orders in which participants see the models.
        questions: what participants are asked.
    """

    name: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    consent: Text
    thanks: Text = "Thank you for taking part. You may close this page."
    videos: Annotated[int, Field(ge=1, le=10_000)] | None = None
    minutes: Annotated[float, Field(gt=0, le=1440)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    questions: Annotated[tuple[Question, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.videos is None and self.minutes is None:
            raise ValueError("a study needs videos, minutes, or both")
        names = [question.name for question in self.questions]
        if len(set(names)) < len(names):
            raise ValueError("two questions have the same name")
        return self

    def asked(self, after: Literal["part", "study"]) -> list[Question]:
        """The questions after a part, or at the end."""
        return [question for question in self.questions if question.after == after]
