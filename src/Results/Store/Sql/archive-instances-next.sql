FETCH 4096 FROM archived_instances
