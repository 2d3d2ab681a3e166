"""Names that version 0.2.0 replaced, and their replacements: CHANGELOG.md lists the same pairs.

Validation refuses an old name and names the new one. There are no aliases: every inventory and command uses one name.
"""

OPTIONS = {
    "app_left_out": "app_drained_nodes",
    "app_redis_ca_id": "app_redis_ca_digest",
    "app_redis_passwords_id": "app_redis_passwords_digest",
    "app_roll": "app_deployment_suffix",
    "app_run": "app_operation",
    "app_serial": "app_batch_size",
    "app_watch_seconds": "app_soak_seconds",
    "cluster_address": "topology_address",
    "cluster_addresses": "topology_addresses",
    "cluster_certificate_warn_days": "topology_certificate_warn_days",
    "cluster_drain_seconds": "topology_drain_seconds",
    "cluster_meets_clients": "topology_faces_clients",
    "cluster_names": "topology_public_names",
    "cluster_secrets_dir": "topology_secrets_dir",
    "cluster_url": "topology_public_url",
    "firewall_undo_seconds": "firewall_confirm_seconds",
    "nginx_maintenance_key": "nginx_maintenance_bypass_token",
    "nginx_maintenance_note": "nginx_maintenance_reason",
    "nginx_max_ahead_bytes": "nginx_max_temp_file_bytes",
    "run_deployment_file": "deploy_lock_deployment_file",
    "run_lock_host": "deploy_lock_host",
    "run_take_over": "deploy_lock_take_over",
    "session_check_left_out": "session_check_drained_nodes",
}
EXTRA_VARIABLES = {"why": "reason"}
TAGS = {"check": "verify"}
PLAYBOOKS = {"playbooks/check.yml": "playbooks/verify.yml", "playbooks/machines.yml": "playbooks/local_nodes.yml"}
MAKE_TARGETS = {"check": "verify", "drill": "load-test"}
