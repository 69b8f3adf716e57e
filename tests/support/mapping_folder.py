"""A small mappings folder for the tools: one message, a JSON region and an XML region, to be changed by a test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli.main import main

VOCABULARY = """
[note]
zh = "通知"
en = "note"
flow = "theirs-to-ours"

[note.fields]
id = { type = "string", required = true, sensitivity = "none", zh = "编号", en = "id", meaning = "Its number" }
"holder.name" = { type = "string", required = true, sensitivity = "personal", zh = "姓名", en = "name", meaning = "It" }
"holder.sex" = { type = "code", table = "sex", sensitivity = "personal", zh = "性别", en = "sex", meaning = "Sex" }
issued_on = { type = "date", sensitivity = "none", zh = "颁发日期", en = "day of issue", meaning = "Day of issue" }
pages = { type = "list", sensitivity = "none", zh = "页", en = "pages", meaning = "Its pages" }
"pages[].text" = { type = "string", required = true, sensitivity = "none", zh = "文字", en = "text", meaning = "Words" }
remark = { type = "string", sensitivity = "sensitive", zh = "备注", en = "remark", meaning = "What else is said" }
"""

SEX = """
zh = "性别"
en = "sex"
source = "GB/T 2261.1"

[columns]
east = "digits"
west = "words"

[codes]
M = { zh = "男", en = "male", east = "1", west = "男" }
F = { zh = "女", en = "female", east = "2", west = "女" }
"""

EAST_RULES = """# East: what the office answers.
[rules]
id = "bh"
"holder.name" = "xm"
"holder.sex" = { at = "xb", table = "sex.east" }
issued_on = { at = "rq", as = "date:yyyyMMdd" }
"pages[].text" = "ym[].wz"
"""

EAST_LOSSES = """
[[loss]]
field = "remark"
direction = "theirs-to-ours"
reason = "The office says nothing else."

[[loss]]
field = "sj"
direction = "theirs-to-ours"
reason = "We do not ask when it was written."
"""

EAST_SCHEMA = """{"type": "object", "required": ["bh", "xm"], "properties": {
  "bh": {"type": "string"}, "xm": {"type": "string", "title": "姓名"}, "xb": {"enum": ["1", "2"]},
  "rq": {"type": "string", "pattern": "^[0-9]{8}$"}, "sj": {"type": "string"},
  "ym": {"type": "array", "items": {"type": "object", "properties": {"wz": {"type": "string"}}}}}}"""

EAST_OURS = {
    "id": "1", "holder": {"name": "测试甲", "sex": "M"}, "issued_on": "2026-03-01", "pages": [{"text": "a"}],
    "remark": "x",
}  # fmt: skip
EAST_THEIRS = {"bh": "1", "xm": "测试甲", "xb": "1", "rq": "20260301", "ym": [{"wz": "a"}]}

WEST_RULES = """# West: the Note of the feed.
[rules]
id = "Number"
"holder.name" = "Holder/Name"
"holder.sex" = { at = "Holder/@sex", table = "sex.west" }
issued_on = { at = "Issued", as = "date:yyyy-MM-dd" }
"pages[].text" = "Page[]"
remark = "Remark"
"""

WEST_SCHEMA = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:element name="Note"><xs:complexType><xs:sequence>
  <xs:element name="Number" type="xs:string"/>
  <xs:element name="Holder"><xs:complexType>
    <xs:sequence><xs:element name="Name" type="xs:string"/></xs:sequence>
    <xs:attribute name="sex"><xs:simpleType><xs:restriction base="xs:string">
      <xs:enumeration value="男"/><xs:enumeration value="女"/></xs:restriction></xs:simpleType></xs:attribute>
  </xs:complexType></xs:element>
  <xs:element name="Issued" type="xs:date" minOccurs="0"/>
  <xs:element name="Page" type="xs:string" minOccurs="0" maxOccurs="unbounded"/>
  <xs:element name="Remark" type="xs:string" minOccurs="0"/>
</xs:sequence></xs:complexType></xs:element></xs:schema>"""

WEST_THEIRS = """<Note><Number>1</Number><Holder sex="女"><Name>测试乙</Name></Holder><Issued>2026-03-01</Issued>
<Page>a</Page><Remark>x</Remark></Note>"""
WEST_OURS = {
    "id": "1", "holder": {"name": "测试乙", "sex": "F"}, "issued_on": "2026-03-01", "pages": [{"text": "a"}],
    "remark": "x",
}  # fmt: skip


class MappingFolder:
    """A mappings folder on disk, without faults until a test makes some."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("vocabulary.toml", VOCABULARY)
        self.write("tables/sex.toml", SEX)
        self._pack("east", EAST_RULES, EAST_LOSSES, ("schema.json", EAST_SCHEMA))
        self.write("east/note/examples/one.canonical.json", json.dumps(EAST_OURS))
        self.write("east/note/examples/one.region.json", json.dumps(EAST_THEIRS))
        self._pack("west", WEST_RULES, "", ("schema.xsd", WEST_SCHEMA))
        self.write("west/note/examples/one.canonical.json", json.dumps(WEST_OURS))
        self.write("west/note/examples/one.region.xml", WEST_THEIRS)

    def _pack(self, region: str, rules: str, losses: str, schema: tuple[str, str]) -> None:
        self.write(f"{region}/note/rules.toml", rules)
        self.write(f"{region}/note/losses.toml", losses)
        self.write(f"{region}/note/{schema[0]}", schema[1])

    def write(self, name: str, text: str) -> Path:
        """Write a file below the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def read(self, name: str) -> str:
        """Return a file's text."""
        return (self.root / name).read_text(encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a text that stands in a file."""
        text = self.read(name)
        assert old in text
        self.write(name, text.replace(old, new))

    def copy(self, name: str) -> MappingFolder:
        """Return a copy beside this folder."""
        other = MappingFolder.__new__(MappingFolder)
        other.root = self.root.parent / name
        shutil.copytree(self.root, other.root)
        return other

    def pearl(self, command: str, *arguments: str, stdin: str | None = None) -> Result:
        """Run `pearl mappings <command>` on this folder."""
        given = [command, *arguments, "--mappings", str(self.root)]
        return pearl(*given, stdin=stdin)


def pearl(*arguments: str, stdin: str | None = None) -> Result:
    """Run `pearl mappings …`."""
    return CliRunner().invoke(main, ["mappings", *arguments], input=stdin, catch_exceptions=False)
