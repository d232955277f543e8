"""What people write first: FastAPI around a transformers pipeline. Arguments: folder, port."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()
classify = pipeline("text-classification", model=sys.argv[1], device="cpu")


class Question(BaseModel):
    """A request's body."""

    text: str


@app.post("/classify")  # type: ignore[untyped-decorator]
def answer(question: Question) -> Any:
    """In a thread of FastAPI's."""
    return classify(question.text)[0]


@app.get("/ready")  # type: ignore[untyped-decorator]
def ready() -> dict[str, str]:
    """The model is loaded when this answers."""
    return {}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
