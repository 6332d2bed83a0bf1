//! Evaluates what a configuration declares, each variable, local value and resource once, when it is first referred to.

use super::source::{Problem, SourceFile};
use super::{Resource, aws};
use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Block, Body, Structure};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Attributes of a resource that are Terraform's own.
const META_ARGUMENTS: [&str; 4] = ["count", "depends_on", "for_each", "provider"];

/// What stands in a file.
type Placed<'a, T> = (&'a SourceFile, &'a T);

/// Everything that the files of a configuration declare, by name.
#[derive(Debug, Default)]
pub(super) struct Declarations<'a> {
    pub(super) variables: BTreeMap<String, Placed<'a, Block>>,
    pub(super) locals: BTreeMap<String, Placed<'a, Attribute>>,
    /// Resources and data sources: `aws_lb.main`, `data.archive_file.hooks`.
    pub(super) resources: BTreeMap<String, Placed<'a, Block>>,
    pub(super) outputs: BTreeMap<String, Placed<'a, Block>>,
    /// Configurations of the provider `aws`.
    pub(super) providers: Vec<Placed<'a, Block>>,
}

/// What names mean where an expression stands.
#[derive(Debug, Clone)]
pub(super) struct Scope<'a> {
    pub(super) file: &'a SourceFile,
    /// `each`, `count`, and the variables of `for` expressions.
    pub(super) names: BTreeMap<String, Value>,
}

impl<'a> Scope<'a> {
    /// Outside of any instance and projection.
    fn of(file: &'a SourceFile) -> Self {
        Self { file, names: BTreeMap::new() }
    }

    /// Inside one instance of a resource.
    fn with(file: &'a SourceFile, name: &str, value: Value) -> Self {
        Self { file, names: BTreeMap::from([(name.to_owned(), value)]) }
    }
}

/// The values of what a configuration declares, as far as they are evaluated.
#[derive(Debug)]
pub(super) struct Evaluator<'a> {
    declarations: &'a Declarations<'a>,
    /// Values of variables that were set from outside.
    given: &'a BTreeMap<String, Value>,
    /// The account in ARNs.
    pub(super) account: String,
    /// The Region in ARNs.
    pub(super) region: String,
    /// By name: `var.region`, `local.sides`, `aws_lb.main`. None: it is being evaluated.
    values: RefCell<BTreeMap<String, Option<Value>>>,
    /// Every instance, in the order of evaluation.
    pub(super) instances: RefCell<Vec<Resource>>,
}

impl<'a> Declarations<'a> {
    /// Adds what a file declares.
    pub(super) fn add(&mut self, file: &'a SourceFile) -> Result<(), Problem> {
        for structure in file.body.iter() {
            let Structure::Block(block) = structure else {
                return Err(file.problem(structure, "an attribute outside of every block"));
            };
            let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
            let known = match (block.ident.as_str(), labels.as_slice()) {
                ("terraform", []) => None,
                ("provider", ["aws"]) => {
                    self.providers.push((file, block));
                    None
                }
                ("locals", []) => {
                    for attribute in block.body.attributes() {
                        let name = attribute.key.as_str().to_owned();
                        if self.locals.insert(name, (file, attribute)).is_some() {
                            return Err(file.problem(attribute, "it is declared twice"));
                        }
                    }
                    None
                }
                ("variable", [name]) => self.variables.insert((*name).to_owned(), (file, block)),
                ("output", [name]) => self.outputs.insert((*name).to_owned(), (file, block)),
                ("resource", [kind, name]) => self.resources.insert(format!("{kind}.{name}"), (file, block)),
                ("data", [kind, name]) => self.resources.insert(format!("data.{kind}.{name}"), (file, block)),
                (kind, _) => return Err(file.problem(block, format!("blocks `{kind}` are not evaluated here"))),
            };
            if known.is_some() {
                return Err(file.problem(block, "it is declared twice"));
            }
        }
        Ok(())
    }
}

impl<'a> Evaluator<'a> {
    /// Nothing is evaluated yet; account and Region are unknown.
    pub(super) fn new(declarations: &'a Declarations<'a>, given: &'a BTreeMap<String, Value>) -> Self {
        Self {
            declarations,
            given,
            account: String::new(),
            region: String::new(),
            values: RefCell::default(),
            instances: RefCell::default(),
        }
    }

    /// Evaluates it unless that was done before.
    fn once(
        &self,
        name: &str,
        place: &str,
        evaluate: impl FnOnce() -> Result<Value, Problem>,
    ) -> Result<Value, Problem> {
        let known = self.values.borrow().get(name).cloned();
        match known {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(Problem::new(place, format!("{name} depends on itself"))),
            None => {
                self.values.borrow_mut().insert(name.to_owned(), None);
                let value = evaluate()?;
                self.values.borrow_mut().insert(name.to_owned(), Some(value.clone()));
                Ok(value)
            }
        }
    }

    /// The attributes of a file that sets variables.
    pub(super) fn constants(&self, file: &SourceFile) -> Result<BTreeMap<String, Value>, Problem> {
        Ok(self.body(&file.body, &Scope::of(file), false)?.into_iter().collect())
    }

    /// The value of a variable: as given, or its default. `place`: where it is referred to.
    pub(super) fn variable(&self, name: &str, place: &str) -> Result<Value, Problem> {
        self.once(&format!("var.{name}"), place, || {
            let Some((file, block)) = self.declarations.variables.get(name) else {
                return Err(Problem::new(place, format!("there is no variable `{name}`")));
            };
            match (self.given.get(name), block.body.get_attribute("default")) {
                (Some(value), _) => Ok(value.clone()),
                (None, Some(default)) => self.attribute(default, &Scope::of(file)),
                (None, None) => Err(file.problem(*block, format!("the variable `{name}` has no value"))),
            }
        })
    }

    /// Whether the variable's value passes its validations.
    pub(super) fn validate(&self, name: &str) -> Result<(), Problem> {
        let Some((file, block)) = self.declarations.variables.get(name) else { return Ok(()) };
        for validation in block.body.get_blocks("validation") {
            let Some(condition) = validation.body.get_attribute("condition") else { continue };
            if !self.truth(&condition.value, &Scope::of(file))? {
                return Err(file.problem(validation, format!("the variable `{name}` has an invalid value")));
            }
        }
        Ok(())
    }

    /// A local value.
    pub(super) fn local(&self, name: &str, place: &str) -> Result<Value, Problem> {
        self.once(&format!("local.{name}"), place, || {
            let Some((file, attribute)) = self.declarations.locals.get(name) else {
                return Err(Problem::new(place, format!("there is no local value `{name}`")));
            };
            self.attribute(attribute, &Scope::of(file))
        })
    }

    /// The value of an output.
    pub(super) fn output(&self, (file, block): Placed<'_, Block>) -> Result<Value, Problem> {
        match block.body.get_attribute("value") {
            Some(value) => self.attribute(value, &Scope::of(file)),
            None => Err(file.problem(block, "it has no value")),
        }
    }

    /// The value of an attribute of the provider; none: it is not set.
    pub(super) fn of_provider(&self, name: &str) -> Result<Option<Value>, Problem> {
        let mut providers = self.declarations.providers.iter();
        let found = providers.find_map(|(file, block)| Some((*file, block.body.get_attribute(name)?)));
        found.map(|(file, attribute)| self.attribute(attribute, &Scope::of(file))).transpose()
    }

    /// A resource or data source: an object, or all its instances by key or in a list.
    pub(super) fn declared(&self, address: &str, place: &str) -> Result<Value, Problem> {
        self.once(address, place, || {
            let Some((file, block)) = self.declarations.resources.get(address) else {
                return Err(Problem::new(place, format!("there is no `{address}`")));
            };
            self.all_instances(address, file, block)
        })
    }

    fn all_instances(&self, address: &str, file: &SourceFile, block: &Block) -> Result<Value, Problem> {
        let outside = Scope::of(file);
        if let Some(attribute) = block.body.get_attribute("for_each") {
            let Value::Object(elements) = self.attribute(attribute, &outside)? else {
                return Err(file.problem(attribute, "`for_each` takes a map or a set"));
            };
            let mut instances = Map::new();
            for (key, value) in elements {
                let scope = Scope::with(file, "each", json!({"key": key, "value": value}));
                let instance = self.instance(&format!("{address}[\"{key}\"]"), block, &scope)?;
                instances.insert(key, instance);
            }
            return Ok(Value::Object(instances));
        }
        if let Some(attribute) = block.body.get_attribute("count") {
            let count = self.attribute(attribute, &outside)?;
            let Some(count) = count.as_u64() else {
                return Err(file.problem(attribute, format!("`count` cannot be {count}")));
            };
            let instances = (0..count).map(|index| {
                let scope = Scope::with(file, "count", json!({"index": index}));
                self.instance(&format!("{address}[{index}]"), block, &scope)
            });
            return Ok(Value::Array(instances.collect::<Result<_, _>>()?));
        }
        self.instance(address, block, &outside)
    }

    /// One instance: its attributes and blocks, and what AWS computes.
    fn instance(&self, address: &str, block: &Block, scope: &Scope<'_>) -> Result<Value, Problem> {
        let file = scope.file;
        let kind = address.split('.').next().unwrap_or_default();
        let kind = if kind == "data" { block.labels[0].as_str() } else { kind };
        if let Some(attribute) = block.body.get_attribute("depends_on") {
            self.check_dependencies(attribute, file)?;
        }
        let mut attributes = self.body(&block.body, scope, true)?;
        let computed = aws::computed(kind, address, &attributes, &self.account, &self.region);
        for (name, value) in computed.map_err(|reason| file.problem(block, reason))? {
            attributes.entry(name).or_insert(value);
        }
        let attributes = Value::Object(attributes);
        self.instances.borrow_mut().push(Resource {
            kind: kind.to_owned(),
            address: address.to_owned(),
            attributes: attributes.clone(),
            ignored: ignored(&block.body, file)?,
            place: file.place(block.span()),
        });
        Ok(attributes)
    }

    /// Attributes by name; blocks of a kind as a list, in the order of the file.
    fn body(&self, body: &Body, scope: &Scope<'_>, is_resource: bool) -> Result<Map<String, Value>, Problem> {
        let mut evaluated = Map::new();
        for structure in body.iter() {
            match structure {
                Structure::Attribute(attribute) if is_resource && is_meta(attribute) => {}
                Structure::Attribute(attribute) => {
                    evaluated.insert(attribute.key.as_str().to_owned(), self.attribute(attribute, scope)?);
                }
                Structure::Block(block) if is_resource && block.has_ident("lifecycle") => {}
                Structure::Block(block) => {
                    if block.has_ident("dynamic") || block.is_labeled() {
                        return Err(scope.file.problem(block, "this block is not evaluated here"));
                    }
                    let nested = Value::Object(self.body(&block.body, scope, false)?);
                    match evaluated.entry(block.ident.as_str()).or_insert_with(|| json!([])) {
                        Value::Array(blocks) => blocks.push(nested),
                        _ => return Err(scope.file.problem(block, "it is both an attribute and a block")),
                    }
                }
            }
        }
        Ok(evaluated)
    }

    fn attribute(&self, attribute: &Attribute, scope: &Scope<'_>) -> Result<Value, Problem> {
        self.expression(&attribute.value, scope)
    }

    /// Whether everything that `depends_on` names is declared.
    fn check_dependencies(&self, attribute: &Attribute, file: &SourceFile) -> Result<(), Problem> {
        let Some(dependencies) = attribute.value.as_array() else {
            return Err(file.problem(attribute, "`depends_on` takes a list"));
        };
        for dependency in dependencies.iter() {
            let address = dependency.to_string();
            if !self.declarations.resources.contains_key(address.trim()) {
                return Err(file.problem(attribute, format!("there is no `{}`", address.trim())));
            }
        }
        Ok(())
    }
}

fn is_meta(attribute: &Attribute) -> bool {
    META_ARGUMENTS.contains(&attribute.key.as_str())
}

/// The attributes whose changes Terraform ignores.
fn ignored(body: &Body, file: &SourceFile) -> Result<Vec<String>, Problem> {
    let mut ignored = Vec::new();
    for structure in body.get_blocks("lifecycle").flat_map(|lifecycle| lifecycle.body.iter()) {
        let Some(attribute) = structure.as_attribute().filter(|attribute| attribute.has_key("ignore_changes")) else {
            return Err(file.problem(structure, "of `lifecycle`, only `ignore_changes` is read here"));
        };
        let Some(names) = attribute.value.as_array() else {
            return Err(file.problem(attribute, "`ignore_changes` takes a list of attributes"));
        };
        for name in names.iter() {
            match name {
                Expression::Variable(name) => ignored.push(name.as_str().to_owned()),
                other => return Err(file.problem(other, "only the names of attributes are read here")),
            }
        }
    }
    ignored.sort();
    Ok(ignored)
}
