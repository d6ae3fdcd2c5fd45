"""Fifty schemas: nested, enums, bounded arrays, patterns, references, numbers in ranges, formats, unions."""

from __future__ import annotations

from typing import Any


def record(required: tuple[str, ...] | None = None, /, **properties: Any) -> dict[str, Any]:
    """An object with these properties alone; all are required where it is not said which."""
    names = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def listed(items: Any, **bounds: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **bounds}


def matching(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


STRING, INTEGER, NUMBER, BOOLEAN = ({"type": name} for name in ("string", "integer", "number", "boolean"))
SHORT = {"type": "string", "maxLength": 8}
ADDRESS = record(street={"type": "string", "maxLength": 20}, number=INTEGER)
NODE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": record(
            value={"type": "integer", "minimum": -5, "maximum": 1000},
            next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        )
    },
}
TREE = {
    "$ref": "#/$defs/tree",
    "$defs": {"tree": record(name=SHORT, children=listed({"$ref": "#/$defs/tree"}, maxItems=3))},
}
SHARED = {
    **record(home={"$ref": "#/$defs/place"}, work={"$ref": "#/$defs/place"}),
    "$defs": {"place": record(city=SHORT, zip=matching("^[0-9]{5}$"))},
}

SCHEMAS: dict[str, Any] = {
    "anything": {},
    "true": True,
    "a string": STRING,
    "an integer": INTEGER,
    "a number": NUMBER,
    "a boolean": BOOLEAN,
    "an object": {"type": "object"},
    "an array": {"type": "array"},
    "several types": {"type": ["string", "integer", "null"]},
    "a constant": {"const": {"a": [1, "b"]}},
    "an enum": {"enum": ["red", "green", 3, None, {"a": [1]}]},
    "an enum of texts": {"enum": ["north", "north-east", "south", 'a "quoted" one', "ünï"]},
    "one of": {"anyOf": [BOOLEAN, {"type": "null"}, {"type": "string", "minLength": 3}]},
    "exactly one of": {"oneOf": [INTEGER, SHORT]},
    "objects told apart": {"anyOf": [record(kind={"const": "a"}, a=INTEGER), record(kind={"const": "b"}, b=STRING)]},
    "all of": {"allOf": [{"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}]},
    "a short string": SHORT,
    "a long string": {"type": "string", "minLength": 30},
    "a string of bounded length": {"type": "string", "minLength": 3, "maxLength": 5},
    "a pattern": matching("^[A-Z]{2}-[0-9]{3,5}$"),
    "a pattern of choices": matching("^(cat|dog|bird)s?( and (cat|dog)s?)*$"),
    "a pattern at the end": matching("^[a-z]*-[0-9]+$"),
    "a hex colour": matching("^#[0-9a-fA-F]{6}$"),
    "a date": record(day={"type": "string", "format": "date"}),
    "a time": {"type": "string", "format": "date-time"},
    "an address of mail": {"type": "string", "format": "email"},
    "an identifier": {"type": "string", "format": "uuid"},
    "an address of the net": {"type": "string", "format": "ipv4"},
    "an integer in a range": {"type": "integer", "minimum": -12, "maximum": 345},
    "an integer above": {"type": "integer", "exclusiveMinimum": 999},
    "a number in a range": {"type": "number", "minimum": 0, "maximum": 1},
    "a bounded array": listed(NUMBER, minItems=3, maxItems=5),
    "an array of at least ten": listed(BOOLEAN, minItems=10),
    "an array without end": listed(ADDRESS),
    "an array of arrays": listed(listed(INTEGER, minItems=1, maxItems=3), minItems=1, maxItems=4),
    "a tuple": {"type": "array", "prefixItems": [STRING, INTEGER, BOOLEAN], "items": False, "minItems": 3},
    "an empty array": listed(INTEGER, maxItems=0),
    "a record": record(name=STRING, age={"type": "integer", "minimum": 0, "maximum": 150}, member=BOOLEAN),
    "a record with gaps": record(("id",), id=INTEGER, note=STRING, tags=listed(SHORT, maxItems=3)),
    "a record without properties": record(),
    "a record of any more": {"type": "object", "properties": {"a": INTEGER}, "additionalProperties": {"type": "null"}},
    "a table": {"type": "object", "additionalProperties": INTEGER},
    "keys with quotes": record(**{'a "b"': INTEGER, "c\\d": STRING, "é": BOOLEAN}),
    "nested": record(name=STRING, address=ADDRESS, tags=listed(STRING, minItems=1, maxItems=3)),
    "items with many fields": record(items=listed(record(**{f"f{i}": STRING for i in range(12)}))),
    "nested deep": record(a=record(b=record(c=record(d=record(e=listed(record(f=BOOLEAN), minItems=1)))))),
    "a reference": NODE,
    "a tree": TREE,
    "shared definitions": SHARED,
    "a function's arguments": record(
        query=STRING, limit={"type": "integer", "minimum": 1, "maximum": 50}, order={"enum": ["asc", "desc"]}
    ),
}
