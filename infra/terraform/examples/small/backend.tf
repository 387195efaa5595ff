# Where the state is kept: one bucket for all, locked by a file beside the state. Values: terraform init
# -backend-config=backend.hcl (backend.hcl.example); how to make the bucket: docs/deploy-aws.md.
terraform {
  backend "s3" {
    key          = "tocsin/small.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
