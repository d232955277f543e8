"""The data of a job: sources, preparation, split, demands."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.trainer import Resources
from modelyard.api.values import ColumnName, DataUri, Delimiter, Fraction, ObjectName


class Columns(ApiModel):
    """Which columns of the source hold what. Text sources have one column, `text`."""

    text: ColumnName = Field("text", description="Column with the text.")
    label: ColumnName = Field(
        "label", description="Column with the class; read for text-classification only."
    )


class DataSource(ApiModel):
    """One file, or a folder or glob of files, of one format."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.delimiter) || !has(self.format) || self.format in ['auto', 'csv']",
            message="delimiter is for csv: remove it, or set format to csv",
            field_path=".delimiter",
        ),
    )

    name: ObjectName = Field(description="Name of the source, unique within the job; appears in reports.")
    uri: DataUri = Field(
        description="pvc://claim/path (a file, a folder, or a glob with *, ?, [...] and **), https://host/file, "
        "or configmap://name/key. Percent-encoding is decoded."
    )
    format: Literal["auto", "csv", "json", "jsonl", "parquet", "text"] = Field(
        "auto",
        description="auto goes by the file's ending (.csv, .tsv, .json, .jsonl, .ndjson, .parquet, .txt; also "
        ".gz). Of a folder, a named format takes the files of that format only. json is an array of objects, or "
        "one object after the other; jsonl is one object a line.",
    )
    delimiter: Delimiter | None = Field(
        None,
        description="What parts the columns of csv: one character, or tab. Default: the one of comma, semicolon, "
        "tab and bar that makes a table of the first lines, or that Excel's sep= line names.",
    )
    columns: Columns = Field(default_factory=Columns)


class Normalize(ApiModel):
    """Brings text into one form."""

    unicode: Literal["NFC", "NFKC", "None"] = Field("NFC", description="Unicode normal form.")
    fix_mojibake: bool = Field(True, description="Repairs text that was decoded with the wrong encoding.")


class Filter(ApiModel):
    """Removes rows by length. Bounds are inclusive."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.minTokens) || has(self.maxTokens) || has(self.minCharacters) || "
            "has(self.maxCharacters)",
            message="set at least one of minTokens, maxTokens, minCharacters and maxCharacters",
        ),
        Rule(
            rule="!has(self.minTokens) || !has(self.maxTokens) || self.minTokens <= self.maxTokens",
            message="minTokens must not be above maxTokens",
            field_path=".minTokens",
        ),
        Rule(
            rule="!has(self.minCharacters) || !has(self.maxCharacters) || self.minCharacters <= "
            "self.maxCharacters",
            message="minCharacters must not be above maxCharacters",
            field_path=".minCharacters",
        ),
    )

    min_tokens: int | None = Field(None, ge=0, description="Fewest tokens of the model's tokenizer.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens of the model's tokenizer.")
    min_characters: int | None = Field(None, ge=0, description="Fewest characters.")
    max_characters: int | None = Field(None, ge=1, description="Most characters.")


class Deduplicate(ApiModel):
    """Removes rows whose text was seen before; the first one stays."""

    method: Literal["exact"] = Field("exact", description="exact compares the whole text.")


class PrepareStep(ApiModel):
    """One step; exactly one member is set."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="[has(self.normalize), has(self.filter), has(self.deduplicate)].filter(x, x).size() == 1",
            message="a step is exactly one of normalize, filter and deduplicate: give each step its own "
            "list entry",
        ),
    )

    normalize: Normalize | None = None
    filter: Filter | None = None
    deduplicate: Deduplicate | None = None


class Split(ApiModel):
    """Fractions of the rows that are kept out of training."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.validation) ? self.validation : 0.1) + (has(self.test) ? self.test : 0.0) < 1.0",
            message="validation and test together must be below 1, so that rows are left to train on",
        ),
    )

    validation: Fraction = Field(0.1, description="Fraction for evaluation during training and for the gate.")
    test: Fraction = Field(0.0, description="Fraction evaluated once, at the end.")
    stratify_by: Literal["label"] | None = Field(
        None,
        description="label gives each split each class's share, to within one row, and at least one row of "
        "each class; a class with fewer rows than splits is refused.",
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="Seed of the shuffle.")


class Require(ApiModel):
    """Demands on the prepared data; a miss ends the job before any accelerator is asked for."""

    min_rows: int | None = Field(
        None, ge=1, description="Fewest rows that must be left in all splits together."
    )
    max_removed_fraction: float | None = Field(
        None, ge=0, le=1, description="Largest fraction of the rows that the steps may remove."
    )
    no_leakage: bool = Field(
        False, description="true wants no text of validation or test in a split that comes before it."
    )
    max_truncated_fraction: float | None = Field(
        None, ge=0, le=1, description="Largest fraction of the rows left that training.maxLength may cut."
    )
    no_contradictions: bool = Field(
        False, description="true wants no text under two labels, before or after the steps."
    )


class Data(ApiModel):
    """What to train on and how it is prepared."""

    sources: list[DataSource] = Field(
        min_length=1,
        max_length=16,
        description="Where the rows come from.",
        json_schema_extra={"list_map_keys": ["name"]},
    )
    prepare: list[PrepareStep] = Field(
        default_factory=list,
        max_length=16,
        description="Steps in order. Every removed row is counted with its reason.",
    )
    split: Split = Field(default_factory=Split)
    require: Require = Field(default_factory=Require)
    resources: Resources | None = Field(
        None,
        description="Resources of the pod that prepares the data; not part of what is prepared. Default: the"
        " profile's. Can change while the job is suspended.",
    )
