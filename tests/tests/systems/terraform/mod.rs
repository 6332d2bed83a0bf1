//! Evaluates Terraform configurations without Terraform: what a folder of `.tf` files creates, with the names, IDs and
//! ARNs that AWS would give. Whatever is not understood is a [`Problem`] with its file and line.
//!
//! | module | what it does |
//! |---|---|
//! | `source` | files, and places in them |
//! | `functions` | Terraform's functions |
//! | `aws` | the attributes that AWS computes |
//! | `evaluator` | what is declared, each thing once |
//! | `expression` | expressions |

mod aws;
mod evaluator;
mod expression;
mod functions;
mod source;
mod tests;

pub(crate) use source::Problem;

use evaluator::{Declarations, Evaluator};
use serde_json::Value;
use source::SourceFile;
use std::collections::BTreeMap;
use std::path::Path;

/// The account in ARNs where the provider names none.
const ACCOUNT: &str = "123456789012";
/// The Region in ARNs where the provider names none.
const REGION: &str = "us-east-1";

/// What a configuration creates.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The account: the first of the provider's `allowed_account_ids`.
    pub(crate) account: String,
    /// The provider's Region.
    pub(crate) region: String,
    /// Every instance of every resource and data source.
    pub(crate) resources: Vec<Resource>,
    /// Outputs by name.
    pub(crate) outputs: BTreeMap<String, Value>,
}

/// An instance of a resource or data source.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// `aws_ecs_service`
    pub(crate) kind: String,
    /// `aws_ecs_service.api["blue"]`
    pub(crate) address: String,
    /// Attributes, set and computed, by name; blocks of a kind as a list.
    pub(crate) attributes: Value,
    /// The attributes under `ignore_changes`, in alphabetical order.
    pub(crate) ignored: Vec<String>,
    /// File and line.
    pub(crate) place: String,
}

impl Configuration {
    /// Reads the `.tf` files of a folder. Variables have the values of the file `variables`, if one is named, and those
    /// `given`.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub(crate) fn read(folder: &Path, variables: Option<&str>, given: &[(&str, Value)]) -> Result<Self, Problem> {
        let entries = std::fs::read_dir(folder).map_err(|error| Problem::new(&folder.display().to_string(), error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".tf")).collect();
        names.sort();
        let files = names.iter().map(|name| SourceFile::read(folder, name)).collect::<Result<Vec<_>, _>>()?;
        let variables = variables.map(|name| SourceFile::read(folder, name)).transpose()?;
        Self::evaluate(&files, variables.as_ref(), given)
    }

    /// Evaluates everything that the files declare.
    fn evaluate(
        files: &[SourceFile],
        variables: Option<&SourceFile>,
        given: &[(&str, Value)],
    ) -> Result<Self, Problem> {
        let mut declarations = Declarations::default();
        for file in files {
            declarations.add(file)?;
        }
        let mut values = BTreeMap::new();
        if let Some(file) = variables {
            values = Evaluator::new(&Declarations::default(), &BTreeMap::new()).constants(file)?;
        }
        values.extend(given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        if let Some(unknown) = values.keys().find(|name| !declarations.variables.contains_key(*name)) {
            return Err(Problem::new("variables", format!("there is no variable `{unknown}`")));
        }
        let mut evaluator = Evaluator::new(&declarations, &values);
        let accounts = evaluator.of_provider("allowed_account_ids")?;
        let account = accounts.as_ref().and_then(|accounts| accounts[0].as_str()).unwrap_or(ACCOUNT).to_owned();
        let region = evaluator.of_provider("region")?;
        let region = region.as_ref().and_then(Value::as_str).unwrap_or(REGION).to_owned();
        (evaluator.account, evaluator.region) = (account, region);
        for name in declarations.variables.keys() {
            evaluator.variable(name, "variables")?;
            evaluator.validate(name)?;
        }
        for name in declarations.locals.keys() {
            evaluator.local(name, "locals")?;
        }
        for address in declarations.resources.keys() {
            evaluator.declared(address, address)?;
        }
        let mut outputs = BTreeMap::new();
        for (name, placed) in &declarations.outputs {
            outputs.insert(name.clone(), evaluator.output(*placed)?);
        }
        let (account, region) = (evaluator.account.clone(), evaluator.region.clone());
        Ok(Self { account, region, resources: evaluator.instances.take(), outputs })
    }

    /// Every instance of a kind of resource.
    pub(crate) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Resource> + Clone {
        self.resources.iter().filter(move |resource| resource.kind == kind)
    }

    /// The instance of this kind with this value of an attribute; none: there is none.
    pub(crate) fn find(&self, kind: &str, attribute: &str, value: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.kind == kind && resource.attributes[attribute] == value)
    }

    /// The same, where there has to be one.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, attribute: &str, value: &str) -> &Resource {
        self.find(kind, attribute, value).unwrap_or_else(|| panic!("no {kind} has {attribute} = {value}"))
    }
}

impl Resource {
    /// The text of an attribute.
    #[track_caller]
    pub(crate) fn text(&self, attribute: &str) -> &str {
        let value = &self.attributes[attribute];
        value.as_str().unwrap_or_else(|| panic!("{}: {}.{attribute} is {value}", self.place, self.address))
    }

    /// The whole number of an attribute.
    #[track_caller]
    pub(crate) fn number(&self, attribute: &str) -> u64 {
        let value = &self.attributes[attribute];
        value.as_u64().unwrap_or_else(|| panic!("{}: {}.{attribute} is {value}", self.place, self.address))
    }

    /// The blocks of a kind.
    pub(crate) fn blocks(&self, kind: &str) -> &[Value] {
        self.attributes[kind].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The only block of a kind.
    #[track_caller]
    pub(crate) fn block(&self, kind: &str) -> &Value {
        match self.blocks(kind) {
            [block] => block,
            others => panic!("{}: {} has {} blocks {kind}", self.place, self.address, others.len()),
        }
    }
}
