// Are these files laid out as `terraform fmt` would: node tools/terraform_format.cjs FILE…, with @cdktn/hcl-tools, which
// is HashiCorp's own formatter as a package. For machines without terraform or tofu.
"use strict";
const fs = require("fs");
const { format } = require(require.resolve("@cdktn/hcl-tools", { paths: [process.env.HCL_TOOLS] }));

(async () => {
  const wrong = [];
  for (const path of process.argv.slice(2)) {
    const text = fs.readFileSync(path, "utf8");
    if ((await format(text)) !== text) wrong.push(path);
  }
  for (const path of wrong) console.log(`${path}: not laid out as terraform fmt would`);
  process.exit(wrong.length ? 1 : 0);
})();
