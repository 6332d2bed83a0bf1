"""A hook of Switchback: requests to the candidate, through the load balancer's test rule.

A starting point: replace the paths with the calls that the tier in front really makes, and check the answers.
"""

import os
import urllib.error
import urllib.request


def handler(event, context):
    for path in os.environ["PATHS"].split(","):
        url = os.environ["BASE_URL"] + path
        request = urllib.request.Request(url, headers={"x-switchback-test": "1"})
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                response.read()
        except urllib.error.HTTPError as error:
            return {"status": "failed", "reason": f"{path} answered {error.code}"}
        except OSError as error:
            return {"status": "failed", "reason": f"{path}: {error}"}
    return {"status": "succeeded"}
