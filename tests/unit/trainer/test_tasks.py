"""The table of tasks: the same in the API and in the trainer, each with all that it needs."""

from __future__ import annotations

import pytest
import torch
import transformers
from modelyard.api.tasks import TASKS as FACTS
from modelyard_models.failure import Failure
from modelyard_trainer.tasks import TASKS, find_task
from modelyard_trainer.tasks.task import Task


def test_the_trainer_has_the_tasks_that_the_api_lists() -> None:
    assert {name: (task.metrics, task.labelled) for name, task in TASKS.items()} == {
        name: (facts.metrics, facts.labelled) for name, facts in FACTS.items()
    }


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_has_a_model_and_a_pipeline_of_transformers(task: Task) -> None:
    assert task.load_class() is getattr(transformers, task.auto_class)
    transformers.pipelines.check_task(task.name)
    compile(task.call, "card", "eval")


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_an_answer_is_one_row_of_choices(task: Task) -> None:
    logits = torch.arange(24.0).reshape(1, 6, 4) if task.predicts_tokens else torch.arange(4.0).reshape(1, 4)
    assert task.pick_answer(logits).tolist() == logits.flatten()[-4:].tolist()


def test_a_task_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Failure, match="no task 'translation'; it has text-classification, text-generation"):
        find_task("translation")
