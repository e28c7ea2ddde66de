-- What roles that are neither the tables' owners nor this session's may do to our tables, beyond what
-- workers need. PUBLIC is nobody's name.
SELECT
    coalesce(pg_roles.rolname, 'PUBLIC') AS role,
    acl.privilege_type AS privilege,
    pg_class.oid::regclass::text AS table_name
FROM pg_class
CROSS JOIN LATERAL aclexplode(pg_class.relacl) AS acl
LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
WHERE pg_class.oid IN (
        to_regclass('audio_chunks'), to_regclass('pruned_chunks'), to_regclass('devices')
    )
    AND acl.privilege_type <> 'SELECT'
    AND acl.grantee <> pg_class.relowner
    AND acl.grantee <> current_user::regrole
    AND pg_roles.rolsuper IS NOT TRUE
    AND NOT EXISTS (  -- not pg_has_role: a superuser has every role
        SELECT FROM pg_auth_members
        WHERE roleid = acl.grantee AND member = current_user::regrole
    )
ORDER BY role, table_name, privilege
