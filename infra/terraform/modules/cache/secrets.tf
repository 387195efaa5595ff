# Made, stored, read back, given: as the database's password (modules/database/secrets.tf).
ephemeral "random_password" "new" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "token" {
  # checkov:skip=CKV2_AWS_57: rotated by token_version, since running tasks have to be told (docs/deploy-aws.md)
  name_prefix = "${var.name}/cache-token-"
  description = "Token of the cache"
  kms_key_id  = var.key_arn
}

resource "aws_secretsmanager_secret_version" "token" {
  secret_id                = aws_secretsmanager_secret.token.id
  secret_string_wo         = ephemeral.random_password.new.result
  secret_string_wo_version = var.token_version
}

ephemeral "aws_secretsmanager_secret_version" "token" {
  secret_id = aws_secretsmanager_secret_version.token.secret_id
}

# rediss: TLS; the certificate is one that every system trusts.
resource "aws_secretsmanager_secret" "url" {
  # checkov:skip=CKV2_AWS_57: rotated by token_version, since running tasks have to be told (docs/deploy-aws.md)
  name_prefix = "${var.name}/cache-url-"
  description = "REDIS_URL of all roles"
  kms_key_id  = var.key_arn
}

resource "aws_secretsmanager_secret_version" "url" {
  secret_id                = aws_secretsmanager_secret.url.id
  secret_string_wo         = "rediss://:${ephemeral.aws_secretsmanager_secret_version.token.secret_string}@${aws_elasticache_replication_group.this.primary_endpoint_address}:6379/0"
  secret_string_wo_version = var.token_version
}
