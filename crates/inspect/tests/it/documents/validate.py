"""Validates each document in a folder by its official schema or reference library."""

import io
import json
import lzma
import sys
from pathlib import Path

import jsonschema
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from cyclonedx.model.bom import Bom
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from spdx_python_model import v3_0_1 as spdx3

folder, own_schema, sarif_schema = (Path(argument) for argument in sys.argv[1:])
passed = 0


def check(name, errors):
    global passed
    if errors:
        sys.exit(f"{name}: {errors}")
    passed += 1


def purls(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "purl":
                yield inner
            yield from purls(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from purls(inner)


for version, schema in (("1.6", SchemaVersion.V1_6), ("1.7", SchemaVersion.V1_7)):
    text = (folder / f"cyclonedx-{version}.json").read_text()
    check(version, JsonStrictValidator(schema).validate_str(text))
    bom = Bom.from_json(json.loads(text))
    check(version, None if bom.validate() else "the library finds a dangling reference")
    # The reference library lowercases Go modules and leaves slashes in qualifiers, against the present standard.
    known = [purl for purl in purls(json.loads(text)) if not purl.startswith("pkg:golang/")]
    wrong = [purl for purl in known if PackageURL.from_string(purl).to_string() != purl.replace("%2F", "/")]
    if wrong:
        sys.exit(f"not canonical: {wrong}")

document = parse_file(str(folder / "spdx-2.3.json"))
check("SPDX 2.3", [message.validation_message for message in validate_full_spdx_document(document)])

objects = spdx3.SHACLObjectSet()
with open(folder / "spdx-3.0.1.json", "rb") as file:
    spdx3.JSONLDDeserializer().read(file, objects)
missing = objects.missing_ids
# Writing it again finds members that are missing or of a wrong kind.
spdx3.JSONLDSerializer().write(objects, io.BytesIO())
check("SPDX 3.0.1", [str(one) for one in missing] or (None if len(list(objects.foreach_type(spdx3.software_Package))) > 10 else "no packages"))

for name, schema in (("sarif-2.1.0.json", lzma.open(sarif_schema).read()), ("longshore.json", own_schema.read_bytes())):
    schema = json.loads(schema)
    validator = jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker())
    check(name, [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads((folder / name).read_text()))])

print(f"{passed} checks passed")
