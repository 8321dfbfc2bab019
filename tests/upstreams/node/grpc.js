// The schema of a small service, made at run time so that nothing has to be generated.
import { create, createFileRegistry } from '@bufbuild/protobuf'
import {
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt'

const field = (name, number, type) => ({ name, number, type, label: Label.OPTIONAL, jsonName: name })
const file = create(FileDescriptorProtoSchema, {
  name: 'echo.proto',
  package: 'echo.v1',
  syntax: 'proto3',
  messageType: [
    { name: 'Ask', field: [field('text', 1, Type.STRING), field('times', 2, Type.INT32)] },
    { name: 'Said', field: [field('text', 1, Type.STRING), field('user', 2, Type.STRING)] },
  ],
  service: [
    {
      name: 'Echo',
      method: [
        { name: 'Say', inputType: '.echo.v1.Ask', outputType: '.echo.v1.Said' },
        {
          name: 'Repeat',
          inputType: '.echo.v1.Ask',
          outputType: '.echo.v1.Said',
          serverStreaming: true,
        },
      ],
    },
  ],
})
const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [file] }))
export const Echo = registry.getService('echo.v1.Echo')
