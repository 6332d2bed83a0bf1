//! The evaluator itself: what it understands, and where it says that it does not.

use super::{Configuration, SourceFile};
use serde_json::{Value, json};

fn evaluate(text: &str) -> Result<Configuration, String> {
    let file = SourceFile::parse("main.tf", text.to_owned()).map_err(|problem| problem.to_string())?;
    Configuration::evaluate(&[file], None, &[]).map_err(|problem| problem.to_string())
}

/// The value of an output that is this expression, beside these declarations.
fn value(declarations: &str, expression: &str) -> Result<Value, String> {
    let mut configuration = evaluate(&format!("output \"it\" {{\n  value = {expression}\n}}\n{declarations}\n"))?;
    Ok(configuration.outputs.remove("it").unwrap_or_default())
}

#[test]
fn expressions_have_the_values_that_terraform_gives_them() {
    let locals = "locals {\n  sides = toset([\"green\", \"blue\"])\n  zones = { a = 1, b = 2 }\n  name = \"api\"\n}\n";
    for (expression, expected) in [
        ("\"${local.name}-${local.zones[\"b\"]}\"", json!("api-2")),
        ("[for side in local.sides : side]", json!(["blue", "green"])),
        ("{ for zone, number in local.zones : zone => number if number != 1 }", json!({"b": 2})),
        ("contains([\"a\"], local.name) || !contains(local.sides, \"blue\") ? 1 : null", json!(null)),
        ("jsonencode([{ name = tostring(8080), port = 8080 }])", json!("[{\"name\":\"8080\",\"port\":8080}]")),
        ("local.zones.a == 1 && true", json!(true)),
    ] {
        assert_eq!(value(locals, expression), Ok(expected), "{expression}");
    }
}

#[test]
fn resources_are_created_once_for_each_element_and_named_as_aws_names_them() {
    let text = "provider \"aws\" {\n  region = \"eu-west-1\"\n  allowed_account_ids = [\"111122223333\"]\n}\n\
                resource \"aws_lb_target_group\" \"it\" {\n  for_each = toset([\"blue\", \"green\"])\n  \
                name = \"api-${each.key}\"\n\n  lifecycle {\n    ignore_changes = [tags, name]\n  }\n}\n\
                resource \"aws_ecs_cluster\" \"it\" {\n  count = 1\n  name = \"shop\"\n}\n\
                output \"green\" {\n  value = aws_lb_target_group.it[\"green\"].arn_suffix\n}\n\
                output \"cluster\" {\n  value = aws_ecs_cluster.it[0].arn\n}\n";
    let configuration = evaluate(text).expect("it is sound");
    assert_eq!(configuration.outputs["cluster"], "arn:aws:ecs:eu-west-1:111122223333:cluster/shop");
    let green = configuration.get("aws_lb_target_group", "name", "api-green");
    assert_eq!(configuration.outputs["green"], green.text("arn_suffix"));
    assert!(green.text("arn_suffix").starts_with("targetgroup/api-green/"), "{green:?}");
    assert_eq!((green.address.as_str(), green.place.as_str()), ("aws_lb_target_group.it[\"green\"]", "main.tf:5"));
    assert_eq!(green.ignored, ["name", "tags"]);
    assert_eq!(configuration.all("aws_lb_target_group").count(), 2);
}

#[test]
fn what_is_not_understood_is_reported_with_file_and_line() {
    for (expression, problem) in [
        ("cidrsubnet(\"10.0.0.0/16\", 4, 1)", "main.tf:2: the function `cidrsubnet` is not evaluated here"),
        ("1 + 1", "main.tf:2: `+` is not evaluated here"),
        ("local.nothing", "main.tf:2: there is no local value `nothing`"),
        ("aws_lb.nothing.arn", "main.tf:2: there is no `aws_lb.nothing`"),
        ("var.nothing[*].id", "main.tf:2: there is no variable `nothing`"),
    ] {
        assert_eq!(value("", expression), Err(problem.to_owned()), "{expression}");
    }
    for (text, problem) in [
        ("locals {\n  a = = 1\n}\n", "main.tf:2: "),
        ("\nmodule \"vpc\" {\n}\n", "main.tf:2: blocks `module` are not evaluated here"),
        (
            "resource \"aws_ec2_fleet\" \"it\" {\n}\n",
            "main.tf:1: what AWS computes for `aws_ec2_fleet` is not known here",
        ),
        ("variable \"zones\" {\n}\n", "main.tf:1: the variable `zones` has no value"),
        ("locals {\n  a = local.b\n  b = local.a\n}\n", "main.tf:3: local.a depends on itself"),
        (
            "resource \"aws_vpc\" \"it\" {\n  depends_on = [aws_vpc.other]\n}\n",
            "main.tf:2: there is no `aws_vpc.other`",
        ),
    ] {
        let found = evaluate(text).expect_err("it is not understood");
        assert!(found.starts_with(problem), "{text}: {found}");
    }
}
