"""The stages one by one, on manifests that the run's configuration gives."""

from airflow.sdk import DAG, AssetAlias

from mxpipe_airflow.operators.champion import MxpipeResolveChampionOperator
from mxpipe_airflow.operators.data import MxpipeSplitOperator, MxpipeValidateOperator
from mxpipe_airflow.operators.evaluate import MxpipeGateOperator
from mxpipe_airflow.operators.infra import MxpipeInfraValidateOperator
from mxpipe_airflow.operators.registry import (
    MxpipePromoteOperator,
    MxpipeRegisterOperator,
    MxpipeRollbackOperator,
)


def given(name):
    """An operator's argument, as the run's configuration has it."""
    return Given(name)


class Given:
    """Renders to a value of the run's configuration, whatever its type."""

    template_fields = ()

    def __init__(self, name):
        self.name = name

    def resolve(self, context):
        return context["dag_run"].conf.get(self.name)


def from_conf(operator):
    """An operator whose :class:`Given` arguments come from the run's configuration."""

    class FromConf(operator):
        def run_stage(self, context):
            for name in self.template_fields:
                value = getattr(self, name)
                if isinstance(value, Given):
                    setattr(self, name, value.resolve(context))
            return super().run_stage(context)

    FromConf.__name__ = operator.__name__
    return FromConf


with DAG("stages", schedule=None) as dag:
    from_conf(MxpipeValidateOperator)(
        task_id="validate",
        snapshot_uri="{{ dag_run.conf['snapshot'] }}",
        expectations={
            "columns": {"x": {"type": "float64", "max_null_fraction": 0.1, "maximum": 100.0}},
            "drift": {"severity": "warning"},
        },
        reference_uri="{{ dag_run.conf.get('reference', '') }}",
        recent=given("recent"),
    )
    MxpipeSplitOperator(
        task_id="split", snapshot_uri="{{ dag_run.conf['snapshot'] }}", column="day", at="2013-01-25"
    )
    from_conf(MxpipeGateOperator)(task_id="gate", evaluation=given("evaluation"), policy={}, retries=0)
    MxpipeResolveChampionOperator(task_id="resolve", model_name="stages", partition="2013-01")
    from_conf(MxpipeRegisterOperator)(
        task_id="register",
        model_name="stages",
        candidate=given("candidate"),
        split={"train_uri": "splits/train"},
        champion=given("champion"),
        verdict=given("verdict"),
    )
    from_conf(MxpipePromoteOperator)(
        task_id="promote",
        model_name="stages",
        registered=given("registered"),
        champion=given("champion"),
        verdict=given("verdict"),
        outlets=[AssetAlias("stages_champion")],
    )
    from_conf(MxpipeInfraValidateOperator)(
        task_id="infra_validate",
        candidate=given("candidate"),
        evaluation=given("evaluation"),
        verdict=given("verdict"),
        holdout_uri="{{ dag_run.conf['holdout'] }}",
        latency_milliseconds="{{ dag_run.conf.get('latency', 1000) }}",
        rows=48,
    )
    MxpipeRollbackOperator(
        task_id="rollback",
        model_name="stages",
        version="{{ dag_run.conf.get('version', '') }}",
        outlets=[AssetAlias("stages_champion")],
    )
