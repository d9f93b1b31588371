// Shows the API's operations and lets them be tried, at the address under which this page was opened.

const place = document.getElementById("reference");
const root = new URL(place.dataset.root, location.href);
const dark = matchMedia("(prefers-color-scheme: dark)");
const METHODS = ["get", "put", "post", "patch", "delete"]; // no HEAD: it shows nothing that GET does not
const OTHER_WAYS = ["apiKey", "keyInAddress"]; // to send a key; one is enough here
// Not shown: what the document says about itself, which stands on this page already, and the choice to send empty fields.
const none = () => () => null;

const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const answer = await fetch(new URL("openapi.json", root)).catch(() => null);
if (answer?.ok) show(await answer.json()); // otherwise the sentence with the way to the plain reference stays

function show(spec) {
  window.SwaggerUIBundle({
    spec: forTrying(spec),
    domNode: place,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    docExpansion: "list",
    persistAuthorization: false,
    plugins: [() => ({ wrapComponents: { InfoContainer: none, ParameterIncludeEmpty: none } })],
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}

// The document as forms: they begin empty, so that nothing is sent that nobody has typed, and ask for a thing once.
function forTrying(spec) {
  // Links in answers start with the configured address; calls from here go to the one that is known to answer.
  spec.servers = [{ url: root.href.replace(/\/$/, "") }];
  for (const scheme of OTHER_WAYS) delete spec.components.securitySchemes[scheme];
  spec.security = asBearer(spec.security);
  for (const path of Object.values(spec.paths)) {
    delete path.head;
    for (const operation of METHODS.map((method) => path[method]).filter(Boolean)) {
      if (operation.security) operation.security = asBearer(operation.security);
      const form = operation.requestBody?.content?.["multipart/form-data"];
      const fields = form?.schema.properties ?? {};
      for (const field of Object.values(fields)) empty(field);
      if (form) delete form.examples;
      operation.parameters = (operation.parameters ?? [])
        .map((parameter) => (parameter.$ref ? structuredClone(at(spec, parameter.$ref)) : parameter))
        .filter((parameter) => !(parameter.in === "query" && parameter.name in fields));
      for (const parameter of operation.parameters) {
        for (const node of [parameter, parameter.schema ?? {}]) clear(node);
      }
    }
  }
  return spec;
}

function asBearer(security) {
  return security?.filter((one) => !OTHER_WAYS.some((scheme) => scheme in one));
}

function clear(node) {
  for (const name of ["default", "example", "examples"]) delete node[name];
}

function empty(field) {
  clear(field);
  if (field.format !== "binary") field.example = "";
}

function at(spec, reference) {
  return reference
    .slice(2)
    .split("/")
    .reduce((node, step) => node[step], spec);
}
