"""An explanation of one trained model, kept as JSON: what moves its answers, and when it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from financial_assets.atomic import atomic_write_bytes
from financial_assets.disk import disk_errors
from financial_assets.errors import TrainingError
from financial_assets.models.explanations.ablation import FamilyAblation
from financial_assets.models.explanations.gradients import AnswerAttribution
from financial_assets.models.explanations.permutation import FamilyImportance
from financial_assets.models.explanations.segments import SegmentView

NO_GRADIENTS = (
    "its answers do not depend on the inputs through gradients (trees): integrated gradients do not apply, permutation "
    "importance takes their place"
)


@dataclass(frozen=True)
class Explanation:
    """What was found about a model on its calibrate block.

    Attributes
    ----------
    variant, fingerprint
        Which model.
    first, last
        Held-out decision sessions, ISO dates.
    gradients
        What moved each answer; empty for a model without gradients.
    permutation
        What each family of features is worth to the model.
    ablation
        What is lost by training without a family; empty where no training was asked for.
    segments
        Scores by group.
    """

    variant: str
    fingerprint: str
    first: str
    last: str
    gradients: tuple[AnswerAttribution, ...]
    permutation: tuple[FamilyImportance, ...]
    ablation: tuple[FamilyAblation, ...]
    segments: SegmentView

    @property
    def completeness_error(self) -> float | None:
        """The largest of all answers; ``None`` without gradients."""
        return max((answer.completeness_error for answer in self.gradients), default=None)

    @property
    def across_days(self) -> tuple[FamilyImportance, ...]:
        """Importances when a family speaks of another day, largest first."""
        return tuple(importance for importance in self.permutation if importance.kind == "across days")

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        largest = self.across_days[0]
        rise = largest.losses["total"]
        shown = [importance.family for importance in self.across_days if importance.losses["total"].low > 0]
        worth = (
            f"Beyond chance it does so for {', '.join(shown)}." if shown else "Beyond chance it does so for no family."
        )
        gradients = self.gradients[0] if self.gradients else None
        moved = (
            f"{self.variant}: {NO_GRADIENTS}."
            if gradients is None
            else f"{gradients.families[0].family} moves the direction most ({gradients.families[0].share:.0%} of all "
            f"attribution; completeness error {self.completeness_error:.2g} at most)."
        )
        ablated = (
            f"Training without a family raises the loss most for {self.ablation[0].family}: by "
            f"{self.ablation[0].losses['total']}."
            if self.ablation
            else "No family was left out of a training (ablation was not asked for)."
        )
        return (
            moved,
            f"When a family says what it said of another day, the loss rises most for {largest.family}: by {rise}. "
            f"{worth}",
            ablated,
            self.segments.caution,
        )

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        atomic_write_bytes(path, _EXPLANATION.dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> Explanation:
        """Read what ``save`` wrote.

        Raises
        ------
        TrainingError
            The file is missing, damaged, or of another version.
        """
        try:
            with disk_errors(path, "read"):
                content = path.read_bytes() if path.exists() else b""
            return _EXPLANATION.validate_json(content)
        except ValidationError as error:
            raise TrainingError(
                f"{path} is not a stored explanation ({error}): materialize explanations again"
            ) from error


@dataclass(frozen=True)
class StoredExplanations:
    """What a page can show: explanations, and what is wrong or out of date with any, one sentence each."""

    explanations: tuple[Explanation, ...] = ()
    problems: tuple[str, ...] = ()


_EXPLANATION = TypeAdapter(Explanation)
