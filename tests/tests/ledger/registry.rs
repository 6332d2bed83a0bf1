//! ECR: which images it lists, whether they still exist, and in which account and Region it is asked.

use crate::fixture::{clients, fixture};
use crate::lost_responses::message;
use aws::cloud::AwsCloud;
use aws::registry::EcrRegistry;
use aws_sdk_ecr::types::ImageIdentifier;
use engine::{Cloud as _, ImageRegistry as _, PushedImage};
use rollout::policy::RegistryPolicy;
use rollout::promotion::ImageState;
use rollout::snapshot::Reading;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

#[tokio::test]
async fn the_registry_lists_tagged_images_with_their_uri() {
    let fixture = fixture().await;
    let ecr = fixture.clients.ecr().await;
    ecr.create_repository().repository_name("shop/api").send().await.expect("the repository is made");
    for tag in ["v1", "v2"] {
        let manifest = format!("{{\"schemaVersion\":2,\"config\":{{\"digest\":\"{tag}\"}}}}");
        let put = ecr.put_image().repository_name("shop/api").image_manifest(manifest).image_tag(tag);
        put.send().await.expect("the image is pushed");
    }
    let registry = EcrRegistry::new(fixture.clients.clone());
    let mut images = registry.images(&RegistryPolicy::default(), "shop/api").await.expect("images");
    images.sort_by(|a, b| a.tags.cmp(&b.tags));
    let tags: Vec<&[String]> = images.iter().map(|image| image.tags.as_slice()).collect();
    assert_eq!(tags, [["v1"], ["v2"]]);
    let repositories = ecr.describe_repositories().repository_names("shop/api").send().await.expect("an answer");
    assert_eq!(Some(images[0].repository_uri.as_str()), repositories.repositories()[0].repository_uri());

    // Case 16: a lifecycle rule takes one of them away.
    let cloud = AwsCloud::new(fixture.clients.clone());
    let reference = |image: &PushedImage| format!("{}@{}", image.repository_uri, image.digest.as_str());
    let [kept, expired] = [&images[0], &images[1]];
    assert_eq!(cloud.image_state(&reference(expired)).await, Reading::Known(ImageState::Present));
    let which = ImageIdentifier::builder().image_digest(expired.digest.as_str()).build();
    let deleted = ecr.batch_delete_image().repository_name("shop/api").image_ids(which).send().await.expect("answered");
    assert!(deleted.failures().is_empty(), "{deleted:?}");
    assert_eq!(cloud.image_state(&reference(expired)).await, Reading::Known(ImageState::Gone));
    assert_eq!(cloud.image_state(&reference(kept)).await, Reading::Known(ImageState::Present));

    let error =
        registry.images(&RegistryPolicy::default(), "shop/none").await.expect_err("there is no such repository");
    assert!(error.starts_with("DescribeImages: RepositoryNotFoundException: "), "{error}");
}

/// Issue 10, case 15: the registry lives in another account, and in another Region.
#[tokio::test]
async fn the_policys_registry_is_queried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let request = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a request");
        let request = message(&mut client).await.expect("a whole request");
        let answer = serde_json::json!({"imageDetails": [{
            "registryId": "999999999999",
            "repositoryName": "shop/api",
            "imageDigest": format!("sha256:{}", "a".repeat(64)),
            "imageTags": ["v1"],
            "imagePushedAt": 1_790_000_000,
        }]})
        .to_string();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\ncontent-length:";
        client.write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).await.expect("answered");
        String::from_utf8_lossy(&request).into_owned()
    });
    let registry = EcrRegistry::new(clients(&endpoint).await);
    let elsewhere = RegistryPolicy { account: Some("999999999999".to_owned()), region: Some("us-west-2".to_owned()) };
    let images = registry.images(&elsewhere, "shop/api").await.expect("images");
    assert_eq!(images[0].repository_uri, "999999999999.dkr.ecr.us-west-2.amazonaws.com/shop/api");
    let request = request.await.expect("nobody panicked");
    assert!(request.contains("\"registryId\":\"999999999999\"") && request.contains("/us-west-2/ecr/"), "{request}");
}
