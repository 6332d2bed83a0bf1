"""Deploys a SAM template into an emulator, as `sam deploy` would: packs, uploads, creates the stack, waits.

usage: deploy.py ENDPOINT TEMPLATE STACK BINARIES [PARAMETER=VALUE ...]

A function's CodeUri is a folder of the repository; its last part names the package, and so the file in the folder
BINARIES that becomes `bootstrap`. Prints one line of JSON: the outputs, the physical name of every resource, and the
logical name of every function by its package's.
"""

import concurrent.futures
import datetime
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

import boto3
import botocore.config
import yaml

BUCKET = "switchback-artifacts"


class Template(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` is `{"Ref": "X"}`, `!Sub X` is `{"Fn::Sub": "X"}`."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Template.add_multi_constructor("!", short_form)


def package(binary):
    """A zip that holds the binary as `bootstrap`, without debug information where `strip` is at hand."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bootstrap"
        strip = shutil.which("strip")
        if not strip or subprocess.run([strip, "--strip-debug", "-o", path, binary]).returncode != 0:
            path = binary
        entry = zipfile.ZipInfo("bootstrap", date_time=(2020, 1, 1, 0, 0, 0))
        entry.external_attr = 0o755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", compresslevel=1) as archive:
            archive.writestr(entry, path.read_bytes())
        return packed.getvalue()


def main(endpoint, template_file, stack, binaries, *assignments):
    config = botocore.config.Config(retries={"max_attempts": 1}, read_timeout=120, s3={"addressing_style": "path"})
    client = lambda service: boto3.client(service, endpoint_url=endpoint, config=config)
    cloudformation, s3 = client("cloudformation"), client("s3")

    template = yaml.load(pathlib.Path(template_file).read_text(), Template)
    s3.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name}
    )
    assigned = dict(assignment.split("=", 1) for assignment in assignments)
    functions = {}
    for logical, resource in template["Resources"].items():
        uri = resource.get("Properties", {}).get("CodeUri")
        if resource["Type"] != "AWS::Serverless::Function" or uri is None:
            continue
        name = pathlib.PurePosixPath(uri).name
        functions[name] = logical
        resource["Properties"]["CodeUri"] = {"Bucket": BUCKET, "Key": f"{stack}/{name}.zip"}
        # Lambda tells a function its log level, and this emulator does not. Everything that could be written is.
        variables = resource["Properties"].setdefault("Environment", {}).setdefault("Variables", {})
        variables["AWS_LAMBDA_LOG_LEVEL"] = "TRACE"
        # CloudFormation makes a number of a parameter where a number belongs. This emulator leaves it text, and then reads
        # the queue never.
        for event in resource["Properties"].get("Events", {}).values():
            scaling = event["Properties"].get("ScalingConfig", {})
            if "Ref" in (limit := scaling.get("MaximumConcurrency", {})):
                default = template["Parameters"][limit["Ref"]]["Default"]
                scaling["MaximumConcurrency"] = int(assigned.get(limit["Ref"], default))
        # `sam build` reads it; what is deployed has none.
        resource.pop("Metadata", None)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        packages = {name: pool.submit(package, pathlib.Path(binaries) / name) for name in functions}
        for name, packed in packages.items():
            s3.put_object(Bucket=BUCKET, Key=f"{stack}/{name}.zip", Body=packed.result())

    day = lambda value: value.isoformat() if isinstance(value, datetime.date) else str(value)
    # By its address, as sam deploys it: in a request CloudFormation takes 51,200 bytes at most.
    s3.put_object(Bucket=BUCKET, Key=f"{stack}/template.json", Body=json.dumps(template, default=day).encode())
    cloudformation.create_stack(
        StackName=stack,
        TemplateURL=f"{endpoint}/{BUCKET}/{stack}/template.json",
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in assigned.items()
        ],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    deadline = time.monotonic() + 120
    while True:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        status = found["StackStatus"]
        if status == "CREATE_COMPLETE":
            break
        if status != "CREATE_IN_PROGRESS" or time.monotonic() > deadline:
            events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
            for event in reversed(events):
                reason = event.get("ResourceStatusReason", "")
                print(event["LogicalResourceId"], event["ResourceStatus"], reason, file=sys.stderr)
            sys.exit(f"{stack} is {status}: {found.get('StackStatusReason', '')}")
        time.sleep(0.1)

    listed = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    resources = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in listed}
    processed = cloudformation.get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]
    processed = json.loads(processed) if isinstance(processed, str) else processed
    for name, resource in processed["Resources"].items():
        if resource["Type"] == "AWS::ApiGatewayV2::Api" and "Body" in resource["Properties"]:
            body = resolved(resource["Properties"]["Body"], template, assignments)
            import_body(client, resources, resources[name], body)
    outputs = {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}
    print(json.dumps({"outputs": outputs, "resources": resources, "functions": functions}))


def resolved(value, template, assignments):
    """References to parameters, as what they refer to; everything else stays as it is."""
    values = {key: parameter.get("Default") for key, parameter in template.get("Parameters", {}).items()}
    values.update(a.split("=", 1) for a in assignments)

    def walk(value):
        if isinstance(value, dict):
            if set(value) == {"Ref"} and value["Ref"] in values:
                return values[value["Ref"]]
            return {key: walk(inner) for key, inner in value.items()}
        return [walk(inner) for inner in value] if isinstance(value, list) else value

    return walk(value)


def import_body(client, resources, api, body):
    """Makes what an HTTP API's OpenAPI body describes: CloudFormation does on AWS, ministack does not.

    What ministack's JWT authorizer does otherwise than AWS (source of 1.5.33; both take RS256 alone, find the keys by
    OIDC discovery and keep them for two hours, and hand claims on as text): its issuer may be `http://`, so that one on
    loopback can be asked; a token without `exp` passes; claims that are null or objects are handed on as JSON, where AWS
    leaves null out; of access logs and throttling it knows nothing.
    """
    gateway, functions = client("apigatewayv2"), client("lambda")
    authorizers = {}
    for name, scheme in body.get("components", {}).get("securitySchemes", {}).items():
        authorizer = scheme.get("x-amazon-apigateway-authorizer", {})
        if authorizer.get("type") != "jwt":
            continue
        configuration, source = authorizer["jwtConfiguration"], authorizer["identitySource"]
        made = gateway.create_authorizer(
            ApiId=api,
            Name=name,
            AuthorizerType="JWT",
            IdentitySource=[source] if isinstance(source, str) else source,
            JwtConfiguration={"Issuer": configuration["issuer"], "Audience": configuration["audience"]},
        )
        authorizers[name] = made["AuthorizerId"]
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            integration = operation["x-amazon-apigateway-integration"]
            logical = re.search(r"\$\{(\w+)\.Arn\}", json.dumps(integration["uri"])).group(1)
            arn = functions.get_function(FunctionName=resources[logical])["Configuration"]["FunctionArn"]
            made = gateway.create_integration(
                ApiId=api,
                IntegrationType="AWS_PROXY",
                IntegrationUri=arn,
                PayloadFormatVersion=integration.get("payloadFormatVersion", "2.0"),
            )
            route = {"AuthorizationType": "NONE"}
            security = [(name, scopes) for entry in operation.get("security", []) for name, scopes in entry.items()]
            for name, scopes in security:
                if name in authorizers:
                    route = {
                        "AuthorizationType": "JWT",
                        "AuthorizerId": authorizers[name],
                        "AuthorizationScopes": scopes,
                    }
                elif name == "AWS_IAM":
                    route = {"AuthorizationType": name}
                else:
                    sys.exit(f"{method} {path}: no way is known to make the authorizer {name}")
            verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
            gateway.create_route(
                ApiId=api,
                RouteKey="$default" if path == "/$default" else f"{verb} {path}",
                Target=f"integrations/{made['IntegrationId']}",
                **route,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
