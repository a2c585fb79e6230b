"""Studies: participants, their answers, and the parts that sessions belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables of studies, and add columns to sessions."""
    op.add_column("sessions", sa.Column("part", sa.Integer))
    op.add_column("sessions", sa.Column("arm", sa.String))
    op.create_table(
        "studies",
        sa.Column("study", sa.String, primary_key=True),
        sa.Column("closed", sa.Boolean, nullable=False),
    )
    op.create_table(
        "participants",
        sa.Column("person", sa.String, primary_key=True),
        sa.Column("study", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("order", sa.Text),
        sa.Column("consented", sa.BigInteger),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("finished", sa.BigInteger),
        sa.UniqueConstraint("study", "number", name="one_participant_a_number"),
    )
    op.create_table(
        "answers",
        sa.Column("person", sa.String, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("question", sa.String, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("person", "part", "question"),
    )
