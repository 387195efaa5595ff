# The password is made here, stored in Secrets Manager, read back from there and given to the database: what is stored
# is what the database got, also when an apply breaks off halfway. Neither state nor plan ever holds it.
ephemeral "random_password" "new" {
  length  = 40
  special = false
}

resource "aws_secretsmanager_secret" "password" {
  # checkov:skip=CKV2_AWS_57: rotated by password_version, since running tasks have to be told (docs/deploy-aws.md)
  name_prefix = "${var.name}/database-password-"
  description = "Password of the database's login"
  kms_key_id  = var.key_arn
}

resource "aws_secretsmanager_secret_version" "password" {
  secret_id                = aws_secretsmanager_secret.password.id
  secret_string_wo         = ephemeral.random_password.new.result
  secret_string_wo_version = var.password_version
}

ephemeral "aws_secretsmanager_secret_version" "password" {
  secret_id = aws_secretsmanager_secret_version.password.secret_id
}

# What tasks are given: the whole URL, with the certificate's check.
resource "aws_secretsmanager_secret" "url" {
  # checkov:skip=CKV2_AWS_57: rotated by password_version, since running tasks have to be told (docs/deploy-aws.md)
  name_prefix = "${var.name}/database-url-"
  description = "DATABASE_URL of all roles"
  kms_key_id  = var.key_arn
}

resource "aws_secretsmanager_secret_version" "url" {
  secret_id                = aws_secretsmanager_secret.url.id
  secret_string_wo         = "postgresql://tocsin:${ephemeral.aws_secretsmanager_secret_version.password.secret_string}@${aws_db_instance.this.address}:${aws_db_instance.this.port}/tocsin?sslmode=verify-full&sslrootcert=${var.ca_file}"
  secret_string_wo_version = var.password_version
}
