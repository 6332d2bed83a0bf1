//! Places in moto: everything is made by calls that are not the product's.

use super::fixture::{FOREIGN_WEIGHT, PairFixture, STICKY_FOR, autoscaling, balancer, cloud_at, ecs, task_definition};
use rollout::{EcsPair, Leg, Platform, TargetResources};
use serde_json::json;
use tests::harness::aws::Aws;
use tests::harness::child::Server;
use tests::harness::moto;

/// A running moto.
#[derive(Debug)]
pub(crate) struct Moto {
    server: Server,
    raw: Aws,
    subnets: Vec<String>,
    vpc: String,
}

/// The text of every element of this name.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inside = |rest: &str| rest.split_once(&close).map(|(text, _)| text.to_owned());
    xml.split(&open).skip(1).filter_map(inside).collect()
}

fn element(xml: &str, name: &str) -> String {
    elements(xml, name).into_iter().next().unwrap_or_else(|| panic!("no <{name}> in {xml}"))
}

fn forward(action: usize, groups: &[(&str, u16)], sticky: bool) -> String {
    let config = format!("member.{action}.ForwardConfig");
    let mut parts = vec![format!("member.{action}.Type=forward")];
    for (index, (group, weight)) in groups.iter().enumerate() {
        let tuple = format!("{config}.TargetGroups.member.{}", index + 1);
        parts.push(format!("{tuple}.TargetGroupArn={group}"));
        parts.push(format!("{tuple}.Weight={weight}"));
    }
    if sticky {
        parts.push(format!("{config}.TargetGroupStickinessConfig.Enabled=true"));
        parts.push(format!("{config}.TargetGroupStickinessConfig.DurationSeconds={STICKY_FOR}"));
    }
    parts.join("\n")
}

const SIGN_IN: &str = "member.1.Type=authenticate-oidc
member.1.Order=1
member.1.AuthenticateOidcConfig.Issuer=https://login.example.com
member.1.AuthenticateOidcConfig.AuthorizationEndpoint=https://login.example.com/authorize
member.1.AuthenticateOidcConfig.TokenEndpoint=https://login.example.com/token
member.1.AuthenticateOidcConfig.UserInfoEndpoint=https://login.example.com/user
member.1.AuthenticateOidcConfig.ClientId=shop
member.1.AuthenticateOidcConfig.ClientSecret=secret
member.2.Order=2";

/// Lines of `member.…` as parameters under `field`.
fn under(field: &str, lines: &str) -> String {
    lines.lines().map(|line| format!("{field}.{line}")).collect::<Vec<_>>().join("&")
}

impl Moto {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let server = moto::start(&[("MOTO_ECS_SERVICE_RUNNING", "2")]).unwrap_or_else(|failure| panic!("{failure}"));
        let raw = Aws::at(server.address());
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let asked = "Action=DescribeSubnets&Version=2016-11-15";
        let answer = raw.send("ec2", "POST", "/", &headers, asked).expect("an answer");
        let subnets = elements(&answer.body, "subnetId");
        Self { server, raw, vpc: element(&answer.body, "vpcId"), subnets }
    }

    /// Makes a place whose names are the initials of `name`.
    pub(crate) async fn fixture(&self, name: &str) -> PairFixture {
        // Names in ELBv2 are at most 32 characters.
        let short: String = name.split('_').filter_map(|word| word.chars().next()).collect();
        let made = |query: &str| balancer(&self.raw, query);
        let group = |side: &str| {
            let query = format!(
                "Action=CreateTargetGroup&Name={short}-{side}&Protocol=HTTP&Port=8080&TargetType=ip&VpcId={}",
                self.vpc
            );
            element(&made(&query), "TargetGroupArn")
        };
        let (blue, green, foreign_group) = (group("blue"), group("green"), group("stranger"));
        let subnets = &self.subnets;
        let load_balancer = made(&format!(
            "Action=CreateLoadBalancer&Name={short}&Subnets.member.1={}&Subnets.member.2={}",
            subnets[0], subnets[1]
        ));
        let load_balancer = element(&load_balancer, "LoadBalancerArn");
        let listener = |port: u16| {
            let actions = under("DefaultActions", &forward(1, &[(&blue, 100), (&green, 0)], false));
            let query =
                format!("Action=CreateListener&LoadBalancerArn={load_balancer}&Protocol=HTTP&Port={port}&{actions}");
            element(&made(&query), "ListenerArn")
        };
        let (main, test) = (listener(80), listener(8080));
        let rule = |priority: u16, actions: &str| {
            let condition =
                format!("Conditions.member.1.Field=path-pattern&Conditions.member.1.Values.member.1=/{priority}/*");
            let actions = under("Actions", actions);
            let query = format!("Action=CreateRule&ListenerArn={main}&Priority={priority}&{condition}&{actions}");
            element(&made(&query), "RuleArn")
        };
        let groups = [(blue.as_str(), 100), (green.as_str(), 0), (foreign_group.as_str(), FOREIGN_WEIGHT)];
        let signed_in = rule(1, &format!("{SIGN_IN}\n{}", forward(2, &groups, true)));
        let plain_rule = rule(2, &format!("member.1.Type=forward\nmember.1.TargetGroupArn={blue}"));

        ecs(&self.raw, "CreateCluster", &json!({"clusterName": short}));
        let registered = ecs(&self.raw, "RegisterTaskDefinition", &task_definition(&short));
        let task_definition = registered["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned();
        for (side, group, desired) in [("blue", &blue, 2), ("green", &green, 0)] {
            let service = json!({
                "cluster": short,
                "serviceName": format!("api-{side}"),
                "taskDefinition": task_definition,
                "desiredCount": desired,
                "launchType": "FARGATE",
                "loadBalancers": [{"targetGroupArn": group, "containerName": "api", "containerPort": 8080}],
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": [subnets[0]], "securityGroups": []}},
            });
            ecs(&self.raw, "CreateService", &service);
        }
        let limits = json!({
            "ServiceNamespace": "ecs",
            "ScalableDimension": "ecs:service:DesiredCount",
            "ResourceId": format!("service/{short}/api-blue"),
            "MinCapacity": 1,
            "MaxCapacity": 8,
            "SuspendedState": {"DynamicScalingOutSuspended": true},
        });
        autoscaling(&self.raw, "RegisterScalableTarget", &limits);
        PairFixture {
            cloud: cloud_at(self.server.address()).await,
            raw: self.raw,
            resources: TargetResources {
                platform: Platform::EcsPair(EcsPair {
                    cluster: short,
                    container: "api".to_owned(),
                    blue: "api-blue".to_owned(),
                    green: "api-green".to_owned(),
                }),
                traffic: vec![Leg { blue, green, rules: vec![signed_in, main], test_rule: Some(test) }],
            },
            foreign_group,
            plain_rule,
            task_definition,
        }
    }
}
