function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  if headers:get("seldon-model") == nil and headers:get("x-seldon-route") == nil then
    local model = string.match(path, "^/v2/models/([^/?]+)")
    if model ~= nil then
      headers:add("seldon-model", model)
    end
  end
  if string.sub(path, 1, #GRPC) == GRPC then
    return
  end
  local length = headers:get("content-length")
  length = length ~= nil and tonumber(length) or nil
  if length ~= nil and length > LIMIT then
    handle:respond({[":status"] = "413", ["content-type"] = "application/json"}, TOO_LARGE)
  elseif length == nil or length < LARGE then
    handle:body()
  end
end
