# SPDX-License-Identifier: MIT
"""What kvick puts on a kernel's command line by itself, so that others can have the same."""
import json
import os
import subprocess
import tempfile


def words(build, *options):
    """Of `kvick boot OPTION...`, as it says itself; the guest for that ends at once."""
    with tempfile.NamedTemporaryFile() as stats:
        subprocess.run([os.path.join(build, 'kvick'), 'boot', '--allow-software-kvm', '--stats', stats.name,
                        '--kernel', os.path.join(build, 'tests', 'guests', 'hello'), *options],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        return json.load(stats)['cmdline']
